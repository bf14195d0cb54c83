"""A real Ray head on this machine, on ports of its own, and a command line to talk to it from a fresh process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_START_SECONDS = 60


@contextmanager
def local_head(log: Path) -> Iterator[str]:
    """Within: a head with 2 CPUs that demands this test run's token; the URL of its dashboard."""
    folder = Path(tempfile.mkdtemp(prefix="glr", dir="/tmp"))  # short: sockets' paths are limited to 107 bytes
    ports = _free_ports(4)
    options = {
        "port": ports[0],
        "dashboard-port": ports[1],
        "dashboard-agent-listen-port": ports[2],
        "ray-client-server-port": ports[3],
        "min-worker-port": 0,
        "max-worker-port": 0,
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "include-dashboard": "true",
        "temp-dir": folder,
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
    }
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "start", "--head", "--block", "--disable-usage-stats", *(f"--{k}={v}" for k, v in options.items())]
    with log.open("w") as out:
        head = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait_until_listening(ports[1], head, log)
        yield f"http://127.0.0.1:{ports[1]}"
    finally:
        _kill_session(head)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def start_cli(
    *arguments: str, cwd: Path, env: Mapping[str, str | None] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Within: ``glr-dist`` in a process of its own; a variable that is None is taken out of its environment."""
    changed = {**os.environ, **(env or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "glr_dist.cli", *arguments],
        cwd=cwd,
        env={key: value for key, value in changed.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()  # if something went wrong; else it has ended


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_listening(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and head.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"the head did not start:\n{log.read_text()}")


def _kill_session(head: subprocess.Popen[bytes]) -> None:
    """Kill the head and all that it started; ``ray stop`` would end every Ray of the machine."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            session = int(stat.read_text().rpartition(")")[2].split()[3])
            if session == head.pid and int(stat.parent.name) != head.pid:
                os.kill(int(stat.parent.name), signal.SIGKILL)
    head.kill()
    head.wait()
