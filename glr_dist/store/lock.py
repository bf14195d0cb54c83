"""One writer a run: who writes to its folder keeps a claim there, `.lock-TOKEN`, as long as it lives.

A claim is written first and then compared with the others in the folder: of two that come at once at least one sees the
other and withdraws. That needs no more than listings that show what was written, so it is the same on disks, network
disks and object stores. A claim of this machine is stale when its process is gone; one of another machine when it
shows no sign of life for `SILENT_BEATS` beats. Stale claims are removed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glr_dist.errors import UserError
from glr_dist.store.local import LOCK
from glr_dist.store.storage import Storage

BEAT_SECONDS = 10.0
SILENT_BEATS = 4
_TRIES = 20  # of two that come at once, both withdraw: they try again after different times


class Claim:
    """This process's claim on a run's folder."""

    def __init__(self, run: Storage, beat: float) -> None:
        self._run, self._beat = run, beat
        self._name = f"{LOCK}{secrets.token_hex(8)}"
        self._said = _self_portrait() | {"held": False, "beats": 0}
        self._over = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat_on, name="lock", daemon=True)

    def check(self) -> None:
        """Raise UserError when another process has taken the run over, since this one seemed to be dead."""
        if self._lost:
            raise UserError(
                f"{self._run}: another process took it over while this one was silent; nothing more is written here"
            )

    def acquire(self, say: Callable[[str], None]) -> None:
        """Come to hold the folder, alone.

        Raises:
            UserError: another living process holds it, or nothing can be written there.
        """
        for _ in range(_TRIES):
            self._write()
            others = [name for name in self._run.hidden(LOCK) if name != self._name]
            in_the_way = [said for name in others if (said := self._living(name, say)) is not None]
            if not in_the_way:
                self._said["held"] = True
                self._write()
                self._thread.start()
                return
            self._run.delete(self._name)
            if held := [said for said in in_the_way if said.get("held")]:
                raise UserError(_refusal(self._run, held[0]))
            time.sleep(secrets.randbelow(1000) / 1000 * min(self._beat, 0.5))
        raise UserError(_refusal(self._run, in_the_way[0]))

    def release(self) -> None:
        """Give the folder up."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(UserError, OSError):  # nothing could be written there, or the store no longer answers
            self._run.delete(self._name)

    def _write(self) -> None:
        self._run.write(self._name, json.dumps(self._said).encode())

    def _beat_on(self) -> None:
        """The thread: a sign of life now and then."""
        while not self._over.wait(self._beat):
            with suppress(UserError, OSError):  # a full disk, a store out of reach: the next beat may come through
                if not self._run.exists(self._name):
                    self._lost = True
                    return
                self._said["beats"] += 1
                self._write()

    def _living(self, name: str, say: Callable[[str], None]) -> dict[str, Any] | None:
        """What another claim says, if who wrote it lives; a stale one is removed."""
        said = _read(self._run, name)
        if said is None:
            return None
        if said.get("machine") == self._said["machine"]:
            alive = _lives(said)
        else:
            wait = SILENT_BEATS * self._beat
            say(f"{self._run}: {_who(said)} held it last; waiting up to {wait:.0f} s for a sign of life")
            alive = self._changes(name, said, time.monotonic() + wait)
        if not alive:
            self._run.delete(name)
            self._run.clean("", name)
        return said if alive else None

    def _changes(self, name: str, said: dict[str, Any], until: float) -> bool:
        while time.monotonic() < until:
            time.sleep(self._beat / 4)
            now = _read(self._run, name)
            if now != said:
                return now is not None
        return False


@contextmanager
def written_alone(
    run: Storage, say: Callable[[str], None] = lambda line: None, *, beat: float = BEAT_SECONDS
) -> Iterator[Claim]:
    """Within: no other process that asks likewise writes to a run's folder, which is made if it is not there.

    Args:
        run: the folder.
        say: told when another machine's claim must be watched for a while.
        beat: seconds between two signs of life.

    Raises:
        UserError: another living process writes to it: its machine, process and since when.
    """
    fresh = run.local and not run.exists("")
    claim = Claim(run, beat)
    try:
        claim.acquire(say)
        yield claim
    finally:
        claim.release()
        if fresh:  # nothing may have come of the run
            with suppress(OSError):
                run.path("").rmdir()


def _self_portrait() -> dict[str, Any]:
    """Who this process is, so that others can tell whether it lives."""
    marks = [socket.gethostname()]
    with suppress(OSError):  # a machine without /proc
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "host": marks[0],
        "machine": " ".join(marks),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
        "since": since,
    }


def _born(pid: Any) -> str:
    """What tells a living process of this machine from a later one with its number: its start, in clock ticks since boot.

    "" where that is not told; a ProcessLookupError when there is no such process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no /proc, or it hides other users' processes
        with suppress(PermissionError):
            os.kill(pid, 0)
        return ""
    if fields[0] in "ZX":  # dead, and its parent has not looked yet
        raise ProcessLookupError(pid)
    return fields[19]


def _lives(said: dict[str, Any]) -> bool:
    """Whether the process of this machine that wrote a claim is still there."""
    try:
        return _born(int(said["pid"])) in ("", said["born"])
    except (LookupError, ValueError, TypeError, OSError):
        return False


def _read(run: Storage, name: str) -> dict[str, Any] | None:
    """What a claim says; None when it is withdrawn."""
    try:
        said = json.loads(run.read(name))
    except FileNotFoundError:
        return None
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}


def _who(said: dict[str, Any]) -> str:
    return f"process {said.get('pid', '?')} on {said.get('host', '?')}"


def _refusal(run: Storage, said: dict[str, Any]) -> str:
    return f"{run}: {_who(said)} writes to it since {said.get('since', '?')}; wait until it is done, or stop it"
