"""The examples of one's own network, loss, data and objective: from the command line, from Python, and as a job."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command_line import call, last_json
from local_head import local_head, start_cli

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "examples"
DATA = "DATA"  # in the place of Fashion-MNIST's folder
WORKED: dict[str, tuple[list[str], str, float]] = {  # command line, steps, and what it reaches
    "residual": (["residual.toml", "--data-root", DATA], "60", 0.55),
    "rare": (["rare.toml", "--data", "rare.csv", "--loss", "rare.py:one_less_f1", "--method", "es"], "150", 0.9),
    "head": (["head.toml", "--data-root", DATA], "150", 0.75),
}


@pytest.fixture(scope="module")
def fashion_mnist(mnist_root: Path) -> Path:
    if not (mnist_root / "FashionMNIST").is_dir():
        pytest.skip(f"needs Fashion-MNIST beside MNIST in {mnist_root}")
    return mnist_root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fashion_mnist: Path) -> Path:
    """A current folder with the examples and the table in it; data that they prepare go to a cache of its own."""
    for pattern in ("*.py", "*.toml"):
        for file in EXAMPLES.glob(pattern):
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    module("rare").write_table("rare.csv")
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(f"{name}.py").absolute())
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def typed(name: str, fashion_mnist: Path) -> list[str]:
    command, steps, _ = WORKED[name]
    return ["train", *(str(fashion_mnist) if word is DATA else word for word in command), "--steps", steps, "--json"]


@pytest.mark.parametrize("name", WORKED)
def test_from_the_command_line_and_from_python(
    name: str, here: Path, fashion_mnist: Path, record_property: Callable[[str, object], None]
) -> None:
    """With the same bits: both say the same."""
    _, steps, least = WORKED[name]
    report = last_json(call(*typed(name, fashion_mnist), "--workers", "0", "--run-dir", "run"))
    record_property(f"test accuracy and loss after {steps} steps", (report["test_accuracy"], report["test_loss"]))
    assert report["test_accuracy"] > least
    place = "rare.csv" if name == "rare" else str(fashion_mnist)
    result = module(name).train(place, **{"steps": int(steps), "engine.workers": 0})
    assert result.params_sha256 == report["params_sha256"]
    assert last_json(call("evaluate", "run", "--trust-model", "--json"))["accuracy"] == report["test_accuracy"]
    assert last_json(call("replay", "run", "--trust-model", "--json"))["equal"] is True


def test_f1_is_learnt_where_accuracy_says_little(here: Path, fashion_mnist: Path) -> None:
    """Nine rows in ten are no 8: who never says 8 has an accuracy of 90%, and an F1 of 0."""
    report = last_json(call(*typed("rare", fashion_mnist), "--workers", "0"))
    assert 1 - report["test_loss"] > 0.75


BY_WEIGHTS = ["--method", "es", "--set", "noise.scale=0.1", "--set", "estimator.scheme=layerwise"]


@pytest.mark.parametrize("method", [[], BY_WEIGHTS], ids=["neurons", "weights"])
def test_a_cart_is_brought_to_rest(
    method: list[str], here: Path, record_property: Callable[[str, object], None]
) -> None:
    """By noise on the neurons and on the weights; untrained it costs more."""
    command = ["train", "control.toml", *method, "--workers", "0", "--json"]
    before = last_json(call(*command, "--steps", "1", "--set", "optimizer.lr=1e-9"))
    after = last_json(call(*command, "--steps", "40"))
    record_property("cost before and after 40 steps", (before["test_loss"], after["test_loss"]))
    assert after["test_accuracy"] is None
    assert after["test_loss"] < 0.8 * before["test_loss"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", WORKED)
def test_as_a_job_on_a_cluster(
    name: str,
    here: Path,
    fashion_mnist: Path,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
) -> None:
    """The code travels with the job, and the same bits come out."""
    mine = last_json(call(*typed(name, fashion_mnist), "--workers", "0"))
    folder = tmp_path_factory.mktemp("head")
    with local_head(folder / "head.log") as url:
        send = ("submit", "--address", url, "--", *typed(name, fashion_mnist), "--workers", "1", "--run-dir", "job")
        with start_cli(*send, cwd=here) as job:
            out, err = job.communicate(timeout=280)
    assert job.returncode == 0, out + err
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    record_property("test accuracy as a job", report["test_accuracy"])
    assert report["params_sha256"] == mine["params_sha256"]
    assert (here / "job" / "code").is_dir()
