"""What all tests share: one thread, real MNIST where it is, one local Ray with token authentication.

Ray reads its settings from the environment when it is first imported, so they are set here, on import. Child
processes (a command line under test, Ray's workers) inherit them.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def _use_private_ray() -> None:
    """Point Ray at a token of this test run alone, and at no cluster that happens to be up."""
    folder = Path(tempfile.mkdtemp(prefix="glr_dist_tests_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    token = folder / "ray_token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):  # the token itself would win over the token's path
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


_use_private_ray()
# a shell without job control starts what it runs in the background with Ctrl-C ignored, and child processes inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
hypothesis.settings.register_profile("glr_dist", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("glr_dist")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How scripts/test divides the tests between two processes."""
    parser.addoption("--ray", choices=("all", "only", "none"), default="all", help="which tests, by their use of Ray")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that ask for Ray, and run all that are marked so last; or only them, or none of them."""

    def uses_ray(item: pytest.Item) -> bool:
        return item.get_closest_marker("ray") is not None

    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
    items.sort(key=uses_ray)
    chosen = config.getoption("--ray")
    if chosen != "all":
        left_out = [item for item in items if uses_ray(item) != (chosen == "only")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if uses_ray(item) == (chosen == "only")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded (`record_property`)."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name} {value}")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder under which MNIST lies as torchvision stores it (MNIST/raw/train-images-idx3-ubyte, ...)."""
    root = Path(os.environ.get("GLR_DIST_DATA", PROJECT_ROOT.parent / "shared" / "data"))
    wanted = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    if not wanted.is_file():
        pytest.skip(f"needs MNIST: no {wanted}; set GLR_DIST_DATA to the folder that holds MNIST/")
    return root


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray with 4 CPUs for all tests that ask for it."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=300 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, or of the size that the test asks for."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '256k')}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)
