"""What one pool makes and another uses: every call is answered once, though makers die with what they have made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glr_dist.workers.actor import actor_starter
from glr_dist.workers.parcels import Lost, Stored
from glr_dist.workers.pool import Call, LocalPool, Pool, PoolPolicy
from glr_dist.workers.ray_pool import RayPool
from glr_dist.workers.relay import drain, relay


def roles(folder: Path) -> tuple[type, type]:
    """A maker, and a taker that adds up what was made; both tell ``folder`` what they do."""

    class Maker:  # they travel to actors by value, being local
        def make(self, number: int) -> list[int]:
            with (folder / "log").open("a") as log:
                log.write(f"make {number}\n")
            return list(range(number))

    class Taker:
        def add(self, extra: int, made: list[int]) -> int:
            with (folder / "log").open("a") as log:
                log.write(f"add {len(made)}\n")
            return sum(made) + extra

        def plain(self, value: int) -> int:
            return value

        def die(self, extra: int, made: list[int]) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    return Maker, Taker


@contextmanager
def pools(folder: Path, makers: int, takers: int, policy: PoolPolicy = PoolPolicy()) -> Iterator[tuple[Pool, Pool]]:  # noqa: B008
    """Within: two pools of so many actors; 0: in this process."""
    found: list[Pool] = []
    for size, role, keeps in zip((makers, takers), roles(folder), (True, False), strict=True):
        start = actor_starter(role, (), cpus=0, threads=None, keeps=keeps)
        found.append(RayPool(start, size, policy) if size else LocalPool(role()))
    try:
        yield found[0], found[1]
    finally:
        for pool in found:
            pool.close()


def calls(verb: str = "add", count: int = 8) -> list[Call]:
    """Sums of made lists; every other call needs nothing made."""
    made = [Call(n, verb, (100,), source=Call(n, "make", (n,))) for n in range(0, count, 2)]
    return made + [Call(n, "plain", (n,)) for n in range(1, count, 2)]


EXPECTED = {n: n * (n - 1) // 2 + 100 for n in range(0, 8, 2)} | {n: n for n in range(1, 8, 2)}


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


@pytest.mark.parametrize(
    ("makers", "takers"), [(0, 0), *(pytest.param(*sizes, marks=pytest.mark.ray) for sizes in ((1, 2), (1, 0), (0, 1)))]
)
def test_every_call_is_answered_once_with_what_was_made_for_it(
    makers: int, takers: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if makers or takers:
        request.getfixturevalue("ray_session")
    with pools(tmp_path, makers, takers) as (making, taking):
        answers = [(call.key, answer) for call, answer in relay(calls(), making, taking)]
    assert len(answers) == 8
    assert dict(answers) == EXPECTED
    assert sorted(line for line in log(tmp_path) if line.startswith("make")) == [f"make {n}" for n in range(0, 8, 2)]


def test_no_more_is_made_ahead_than_may_wait(tmp_path: Path) -> None:
    with pools(tmp_path, 0, 0) as (making, taking):
        wanted = [Call(n, "add", (0,), source=Call(n, "make", (n,))) for n in range(6)]
        assert len(list(relay(wanted, making, taking, waiting=1))) == 6
    assert log(tmp_path) == [f"{verb} {n}" for n in range(6) for verb in ("make", "add")]


class DiesWithWhatItMade:
    """A pool of makers; each of the first ``times`` answers is lost with its maker before anybody has fetched it."""

    def __init__(self, pool: Pool, times: int) -> None:
        self._pool, self.left = pool, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def take(self, done: Any) -> Iterator[tuple[Call, Any]]:
        for call, made in self._pool.take(done):
            assert isinstance(made, Stored)
            if self.left:
                self.left -= 1
                pid = next(member.pid for member in self._pool.members() if member.pid)
                os.kill(pid, signal.SIGKILL)
                deadline = time.monotonic() + 60
                while not isinstance(made.fetch(5.0), Lost):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield call, made


def test_what_is_lost_with_its_maker_is_made_again(tmp_path: Path, ray_session: None) -> None:
    with pools(tmp_path, 1, 1) as (making, taking):
        dying: Any = DiesWithWhatItMade(making, times=1)
        answers = [(call.key, answer) for call, answer in relay(calls(), dying, taking)]
        assert making.counts.deaths == 1
    assert len(answers) == 8
    assert dict(answers) == EXPECTED
    assert log(tmp_path).count("make 0") == 2


def test_what_is_lost_again_and_again_ends_the_work(tmp_path: Path, ray_session: None) -> None:
    with pools(tmp_path, 1, 1) as (making, taking):
        dying: Any = DiesWithWhatItMade(making, times=100)
        with pytest.raises(RuntimeError, match="what the call add 0 needs was lost 2 times"):
            list(relay(calls(count=2), dying, taking, losses=1))


def test_a_call_that_kills_its_taker_ends_the_work(tmp_path: Path, ray_session: None) -> None:
    with pools(tmp_path, 1, 1, PoolPolicy(deaths=1)) as two, pytest.raises(RuntimeError, match="2 workers died"):
        list(relay(calls("die", count=2), *two))


def test_several_pools_are_drained_as_answers_come(tmp_path: Path, ray_session: None) -> None:
    """Neither waits for the other's slowest."""

    class Sleeper:
        def sleep(self, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

    start: Callable[[], Any] = actor_starter(Sleeper, (), cpus=0, threads=None)
    one, other = RayPool(start, 1), RayPool(start, 1)
    for pool in (one, other):
        pool.wait_ready()
    one.submit(Call("slow", "sleep", (1.0,)))
    for number in range(3):
        other.submit(Call(number, "sleep", (0.01,)))
    assert [call.key for call, _ in drain(one, other)] == [0, 1, 2, "slow"]
    one.close()
    other.close()
