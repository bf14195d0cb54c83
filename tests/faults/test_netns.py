"""Three hosts with addresses of their own, one of them cut off from the network for 20 s: the run goes on, the same bits.

The hosts are network namespaces joined by a bridge; each has its own `ray start`. Needs root and `ip` (iproute2).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from several_hosts import GIVEN_STEPS, environment
from small_runs import outcome, train_small

PROGRAM = Path(__file__).parents[1] / "support" / "several_hosts.py"
RAY = str(Path(sys.executable).with_name("ray"))
CUT_SECONDS = 20.0
ADDRESSES = ("10.213.77.1", "10.213.77.2", "10.213.77.3")
PORT = 6399


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Hosts:
    """Three network namespaces on one bridge."""

    def __init__(self, tag: str) -> None:
        self.bridge = f"br{tag}"
        self.names = [f"glr{tag}{n}" for n in range(3)]
        self.links = [f"v{tag}{n}" for n in range(3)]

    def make(self) -> None:
        ip("link", "add", "name", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        for name, link, address in zip(self.names, self.links, ADDRESSES, strict=True):
            ip("netns", "add", name)
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", link, "master", self.bridge, "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")

    def remove(self) -> None:
        for name in self.names:
            with suppress(subprocess.CalledProcessError):
                for pid in ip("netns", "pids", name).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                ip("netns", "del", name)
        for link in (*self.links, self.bridge):
            with suppress(subprocess.CalledProcessError):
                ip("link", "del", link)

    def run(self, number: int, *command: str, **variables: str) -> subprocess.Popen[str]:
        """A command on one of the hosts."""
        inside = ["ip", "netns", "exec", self.names[number], *command]
        return subprocess.Popen(
            inside, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@contextmanager
def three_hosts() -> Iterator[Hosts]:
    hosts = Hosts(secrets.token_hex(2))
    try:
        hosts.make()
        yield hosts
    finally:
        hosts.remove()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """The hosts, or a reason why not."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip, from iproute2")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    try:
        with three_hosts() as made:
            ip("netns", "exec", made.names[0], "true")
            yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot make network namespaces: {error.stderr.strip()}")


def start_ray(hosts: Hosts, number: int, folder: str) -> None:
    """A head on the first host; the others join it."""
    where = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
    if number:
        where = [f"--address={ADDRESSES[0]}:{PORT}"]
    options = ["--num-cpus=1", f"--object-store-memory={100 * 2**20}", "--disable-usage-stats"]
    started = hosts.run(number, RAY, "start", f"--node-ip-address={ADDRESSES[number]}", *where, *options)
    out, err = started.communicate(timeout=120)
    assert started.returncode == 0, out + err


def steps_done(folder: Path) -> int:
    with suppress(FileNotFoundError):
        return len((folder / "steps").read_text().splitlines())
    return 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_host_cut_off_for_20_seconds_changes_nothing(
    hosts: Hosts, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = tempfile.mkdtemp(prefix="glr", dir="/tmp")  # short: sockets' paths are limited to 107 bytes
    try:
        for number in range(3):
            start_ray(hosts, number, folder)
        address = f"{ADDRESSES[0]}:{PORT}"
        driver = hosts.run(0, sys.executable, str(PROGRAM), str(tmp_path), "given", RAY_ADDRESS=address)
        deadline = time.monotonic() + 300
        while steps_done(tmp_path) < 20:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        before = steps_done(tmp_path)
        ip("link", "set", hosts.links[2], "down")
        time.sleep(CUT_SECONDS)
        during = steps_done(tmp_path) - before
        ip("link", "set", hosts.links[2], "up")
        out, err = driver.communicate(timeout=400)
        assert driver.returncode == 0, err
    finally:
        hosts.remove()
        shutil.rmtree(folder, ignore_errors=True)
    report = json.loads(out.splitlines()[-1]) | {"steps_while_cut_off": during}
    record_property("figures", json.dumps(report))
    assert report["addresses"] == sorted(ADDRESSES)  # a worker on each host
    assert before + during < GIVEN_STEPS  # the run outlasted the cut
    assert during > 20
    train_small(tmp_path / "undisturbed", {"steps": GIVEN_STEPS, "checkpoint_every": 100})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
