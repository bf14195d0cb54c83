"""Pools: every call is answered once, whatever the workers do. The actors here import nothing and start quickly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glr_dist.errors import UserError
from glr_dist.workers import pace
from glr_dist.workers import pool as pool_module
from glr_dist.workers.pool import Call, LocalPool, RayPool


def starter(folder: Path, **resources: Any) -> Callable[[], Any]:
    """Starts workers that do what a call says, some of it only the first time; ``folder`` remembers."""
    import ray

    class Worker:
        def __init__(self) -> None:
            self.pid = os.getpid()

        def ping(self) -> bool:
            return True

        def work(self, action: str, value: Any) -> Any:
            with (folder / "log").open("a") as log:
                log.write(f"{action} {value} {self.pid}\n")
            if action == "die":
                os.kill(self.pid, signal.SIGKILL)
            if action == "fail":
                raise ZeroDivisionError(f"by {value}")
            if action == "refuse":
                raise UserError(f"{value} is wrong")
            if action == "sleep":
                time.sleep(value)
            if action in ("die once", "sleep once"):
                try:
                    (folder / action).open("x").close()
                except FileExistsError:
                    return value, self.pid
                if action == "sleep once":
                    time.sleep(1.5)
                else:
                    time.sleep(0.1)  # other calls wait behind this one by then
                    os.kill(self.pid, signal.SIGKILL)
            return value, self.pid

    return ray.remote(**{"num_cpus": 0.1, "max_restarts": 0, **resources})(Worker).remote


def work_log(folder: Path) -> list[list[str]]:
    return [line.rsplit(" ", 2) for line in (folder / "log").read_text().splitlines()]


@contextmanager
def ready(folder: Path, size: int, in_flight: int, **options: Any) -> Iterator[RayPool]:
    """Within: a pool whose workers have started."""
    made = RayPool(starter(folder), size=size, in_flight=in_flight, **options)
    made.wait_ready(60)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pool(tmp_path: Path, ray_session: None) -> Iterator[RayPool]:
    with ready(tmp_path, size=2, in_flight=2) as made:
        yield made


def test_local_pool_runs_calls_in_order_and_can_be_used_again() -> None:
    local = LocalPool(lambda a, b: a * b)
    for number in range(3):
        local.submit(Call(number, (number, 10)))
    assert list(local.drain()) == [(0, 0), (1, 10), (2, 20)]
    assert list(local.drain()) == []
    local.submit(Call("again", (2, 2)))
    assert dict(local.drain()) == {"again": 4}
    local.close()


def test_each_call_is_answered_once_and_never_more_than_in_flight_are_out(pool: RayPool) -> None:
    seen = []
    for number in range(20):
        pool.submit(Call(number, ("echo", number)))
        assert pool.units_in_flight == min(number + 1, 4)  # 2 workers x in_flight 2: all the others wait here
    for key, (value, _) in pool.drain():
        assert key == value
        seen.append(key)
        held = [call.key for worker in pool._workers for call, _ in worker.calls.values()]
        assert len(held) == len(set(held)) == pool.units_in_flight <= 4
        assert set(held) <= set(range(20)) - set(seen)  # it knows which call is where
    assert sorted(seen) == list(range(20))
    assert (pool.size, pool.deaths, pool.retries, pool.units_in_flight) == (2, 0, 0, 0)
    assert list(pool.drain()) == []


def test_a_free_worker_takes_a_call_of_a_shard_that_it_holds_first(tmp_path: Path, ray_session: None) -> None:
    with ready(tmp_path, size=2, in_flight=1) as pool:
        for key, seconds, shard in (("a", 0.1, 0), ("b", 1.0, 1), ("c", 0.0, 1), ("d", 0.0, 0)):
            pool.submit(Call(key, ("sleep", seconds), shard=shard))
        answers = list(pool.drain())
    pids = {key: pid for key, (_, pid) in answers}
    assert pids["a"] != pids["b"]  # both are busy, c and d wait: for the first to be free, d is at home
    assert [key for key, _ in answers][:2] == ["a", "d"]
    assert pids["d"] == pids["a"]


def test_calls_of_a_dead_worker_run_again_elsewhere(
    pool: RayPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_SLOW_SECONDS", 60.0)  # the death alone must bring them back
    pool.submit(Call("killer", ("die once", 7)))
    for number in range(6):
        pool.submit(Call(number, ("echo", number)))
    answers = list(pool.drain())
    assert sorted(str(key) for key, _ in answers) == sorted(["killer", *map(str, range(6))])
    assert dict(answers)["killer"][0] == 7
    assert pool.deaths == 1
    assert pool.retries == 2  # the one that killed it, and the one that waited behind it
    assert pool.size == 2
    lines = work_log(tmp_path)
    assert len([line for line in lines if line[0] == "die once"]) == 2
    pool.submit(Call("after", ("echo", 1)))
    assert dict(pool.drain())["after"][0] == 1


def test_a_call_that_kills_every_worker_ends_the_run(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted worker that answers its ping has not answered a call: that must not count as progress."""
    monkeypatch.setattr(pool_module, "_DEATHS", 2)
    with ready(tmp_path, size=1, in_flight=1) as pool:
        pool.submit(Call("poison", ("die", 0)))
        with pytest.raises(RuntimeError, match="3 workers died one after the other") as caught:
            list(pool.drain())
    assert type(caught.value.__cause__).__name__ == "ActorDiedError"
    assert len(work_log(tmp_path)) == 3


def test_an_application_error_is_raised_and_the_call_is_not_repeated(pool: RayPool, tmp_path: Path) -> None:
    pool.submit(Call("bad", ("fail", 3)))
    with pytest.raises(ZeroDivisionError, match="by 3"):
        list(pool.drain())
    assert [line[0] for line in work_log(tmp_path)] == ["fail"]
    assert pool.deaths == 0


def test_a_users_mistake_comes_through_as_itself(pool: RayPool) -> None:
    pool.submit(Call("bad", ("refuse", "units.rows")))
    with pytest.raises(UserError) as caught:
        list(pool.drain())
    assert type(caught.value) is UserError
    assert str(caught.value) == "units.rows is wrong"  # one line, no remote traceback


def test_a_slow_call_runs_elsewhere_and_its_late_answer_is_ignored(pool: RayPool, tmp_path: Path) -> None:
    for number in range(8):  # what is usual here
        pool.submit(Call(number, ("echo", number)))
    list(pool.drain())
    started = time.monotonic()
    pool.submit(Call("key", ("sleep once", 1)))
    assert [(key, value) for key, (value, _) in pool.drain()] == [("key", 1)]
    assert time.monotonic() - started < 1.4
    assert pool.retries == 1
    first, second = [line for line in work_log(tmp_path) if line[0] == "sleep once"]
    assert first[2] != second[2]
    # the same key again, as each step has it; the late answer of the first time must not pass for the new one
    pool.submit(Call("key", ("sleep", 2.0)))
    assert [(key, value) for key, (value, _) in pool.drain()] == [("key", 2.0)]


def test_an_answer_that_cannot_be_one_is_discarded_and_its_worker_replaced(tmp_path: Path, ray_session: None) -> None:
    """The worker that gave the first answer is the one that answers wrongly."""
    bad: list[int] = []

    def check(arguments: tuple[Any, ...], answer: Any) -> str | None:
        assert arguments[1] == answer[0]
        bad.extend([answer[1]] if not bad else [])
        return f"{answer} is no answer" if answer[1] in bad else None

    with ready(tmp_path, size=2, in_flight=2, check=check) as pool:
        for number in range(8):
            pool.submit(Call(number, ("echo", number)))
        answers = dict(pool.drain())
        assert {key: value for key, (value, _) in answers.items()} == {number: number for number in range(8)}
        assert not {pid for _, pid in answers.values()} & set(bad)
        assert (pool.faults, pool.deaths, pool.size) == (1, 1, 2)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{bad[0]}").exists():  # it is killed, though it lived
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_wrong_answers_from_everybody_end_the_run(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_DEATHS", 2)
    with ready(tmp_path, size=1, in_flight=1, check=lambda arguments, answer: "no answer") as pool:
        pool.submit(Call("key", ("echo", 0)))
        with pytest.raises(RuntimeError, match=r"3 workers died one after the other without a sound .*no answer"):
            list(pool.drain())


def test_workers_that_do_not_start_are_told_in_time(tmp_path: Path, ray_session: None) -> None:
    nowhere = RayPool(starter(tmp_path, num_cpus=64), size=2, in_flight=1)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"2 of 2 workers did not start within 0 s.*lower --workers"):
        nowhere.wait_ready(0.3)
    assert time.monotonic() - started < 5
    nowhere.close()


def test_a_run_whose_workers_are_all_gone_for_good_ends(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_NOBODY_SECONDS", 1.0)
    with ready(tmp_path, size=1, in_flight=1) as pool:
        pool._start = starter(tmp_path, num_cpus=64)  # the node is gone: no room for another
        pool.submit(Call("last", ("die", 0)))
        with pytest.raises(RuntimeError, match="all 1 workers are gone and none could be started"):
            list(pool.drain())
