"""Pools: every call is answered once, whatever the workers do. The roles here import nothing and start quickly."""

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
from glr_dist.workers.actor import actor_starter
from glr_dist.workers.pool import Call, LocalPool, PoolPolicy
from glr_dist.workers.ray_pool import RayPool
from glr_dist.workers.relay import drain


def starter(folder: Path, **options: Any) -> Callable[[], Any]:
    """Starts workers that do what a call says, some of it only the first time; ``folder`` remembers."""

    class Role:  # travels to actors by value, being local
        def __getattr__(self, verb: str) -> Callable[[Any], Any]:
            def act(value: Any) -> Any:
                with (folder / "log").open("a") as log:
                    log.write(f"{verb} {value} {os.getpid()}\n")
                if verb == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if verb == "fail":
                    raise ZeroDivisionError(f"by {value}")
                if verb == "refuse":
                    raise UserError(f"{value} is wrong")
                if verb == "sleep":
                    time.sleep(value)
                if verb in ("die_once", "sleep_once"):
                    try:
                        (folder / verb).open("x").close()
                    except FileExistsError:
                        return value, os.getpid()
                    if verb == "sleep_once":
                        time.sleep(1.5)
                    else:
                        time.sleep(0.1)  # other calls wait behind this one by then
                        os.kill(os.getpid(), signal.SIGKILL)
                return value, os.getpid()

            return act

    return actor_starter(Role, (), **{"cpus": 0, "threads": None, **options})


def work_log(folder: Path) -> list[list[str]]:
    return [line.rsplit(" ", 2) for line in (folder / "log").read_text().splitlines()]


def answers_of(pool: RayPool) -> list[tuple[Any, Any]]:
    return [(call.key, answer) for call, answer in drain(pool)]


@contextmanager
def ready(folder: Path, size: int, policy: PoolPolicy, **options: Any) -> Iterator[RayPool]:
    """Within: a pool whose workers have started."""
    made = RayPool(starter(folder), size, policy, **options)
    made.wait_ready()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=[False, True], ids=["ray", "lines"])
def lines(request: pytest.FixtureRequest) -> bool:
    """How calls travel."""
    return bool(request.param)


@pytest.fixture(scope="module")
def folder(lines: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def pool(lines: bool, folder: Path, ray_session: None) -> Iterator[RayPool]:
    """A pool for all tests whose workers live on."""
    with ready(folder, 2, PoolPolicy(in_flight=2), lines=lines) as made:
        assert all((member.line is not None) == lines for member in made.members())
        yield made


def test_local_pool_runs_calls_in_order_and_can_be_used_again() -> None:
    class Multiplier:
        def times(self, a: int, b: int) -> int:
            return a * b

    local = LocalPool(Multiplier())
    for number in range(3):
        local.submit(Call(number, "times", (number, 10)))
    assert [(call.key, answer) for call, answer in drain(local)] == [(0, 0), (1, 10), (2, 20)]
    assert list(drain(local)) == []
    local.submit(Call("again", "times", (2, 2)))
    assert [(call.key, answer) for call, answer in drain(local)] == [("again", 4)]


def test_each_call_is_answered_once_and_never_more_than_in_flight_are_out(pool: RayPool) -> None:
    def held() -> list[int]:
        return [call.key for member in pool.members() for call in member.calls]

    seen = []
    for number in range(20):
        pool.submit(Call(number, "echo", (number,)))
        assert len(held()) == min(number + 1, 4)  # 2 workers x in_flight 2: all the others wait here
    for key, (value, _) in answers_of(pool):
        assert key == value
        seen.append(key)
        assert len(held()) == len(set(held())) <= 4
        assert not set(held()) & set(seen)  # it knows which call is where
    assert sorted(seen) == list(range(20))
    assert (pool.size, pool.counts.deaths, held()) == (2, 0, [])
    assert list(drain(pool)) == []


def test_members_say_who_they_are(pool: RayPool) -> None:
    import ray

    before = sum(member.answered for member in pool.members())
    for number in range(20):
        pool.submit(Call(number, "echo", (number,)))
    pids = {pid for _, (_, pid) in answers_of(pool)}
    members = pool.members()
    assert pids <= {member.pid for member in members}
    assert {member.node for member in members} == {ray.nodes()[0]["NodeID"]}
    assert sum(member.answered for member in members) == before + 20
    assert [(member.number, member.ready) for member in members] == [(0, True), (1, True)]


def test_a_free_worker_takes_a_call_that_is_near_to_what_it_has_read_first(tmp_path: Path, ray_session: None) -> None:
    with ready(tmp_path, 2, PoolPolicy(in_flight=1)) as pool:
        for key, seconds, near in (("a", 0.1, 0), ("b", 1.0, 1), ("c", 0.0, 1), ("d", 0.0, 0)):
            pool.submit(Call(key, "sleep", (seconds,), near=near))
        answers = answers_of(pool)
    pids = {key: pid for key, (_, pid) in answers}
    assert pids["a"] != pids["b"]  # both are busy, c and d wait: for the first to be free, d is at home
    assert [key for key, _ in answers][:2] == ["a", "d"]
    assert pids["d"] == pids["a"]


def test_calls_of_a_dead_worker_run_again_elsewhere(lines: bool, tmp_path: Path, ray_session: None) -> None:
    with ready(tmp_path, 2, PoolPolicy(hedge=None), lines=lines) as pool:  # the death alone must bring them back
        pool.submit(Call("killer", "die_once", (7,)))
        for number in range(6):
            pool.submit(Call(number, "echo", (number,)))
        answers = dict(answers_of(pool))
        assert set(answers) == {"killer", *range(6)}
        assert answers["killer"][0] == 7
        assert pool.counts.deaths == 1
        assert pool.counts.retries == 2  # the one that killed it, and the one that waited behind it
        assert pool.size == 2
        assert len([line for line in work_log(tmp_path) if line[0] == "die_once"]) == 2
        pool.submit(Call("after", "echo", (1,)))
        assert dict(answers_of(pool))["after"][0] == 1


def test_a_call_that_kills_every_worker_ends_the_work(tmp_path: Path, ray_session: None) -> None:
    """A restarted worker that answers its ping has not answered a call: that must not count as progress."""
    with ready(tmp_path, 1, PoolPolicy(in_flight=1, deaths=2)) as pool:
        pool.submit(Call("poison", "die", (0,)))
        with pytest.raises(RuntimeError, match="3 workers died one after the other") as caught:
            answers_of(pool)
    assert type(caught.value.__cause__).__name__ == "ActorDiedError"
    assert len(work_log(tmp_path)) == 3


def test_a_call_that_kills_its_workers_ends_the_work_though_others_answer(tmp_path: Path, ray_session: None) -> None:
    with ready(tmp_path, 2, PoolPolicy(in_flight=1, hedge=None, deaths=2)) as pool:
        pool.submit(Call("poison", "die", (0,)))
        pool.submit(Call(0, "echo", (0,)))

        def go_on() -> None:
            for call, _ in drain(pool):
                pool.submit(Call(call.key + 1, "sleep", (0.05,)))

        with pytest.raises(RuntimeError, match=r"3 workers died at the call die poison \(") as caught:
            go_on()
    assert type(caught.value.__cause__).__name__ == "ActorDiedError"
    assert len([line for line in work_log(tmp_path) if line[0] == "die"]) == 3


def test_an_application_error_is_raised_and_the_call_is_not_repeated(pool: RayPool, folder: Path) -> None:
    before = pool.counts.retries
    pool.submit(Call("bad", "fail", (3,)))
    with pytest.raises(ZeroDivisionError, match="by 3"):
        answers_of(pool)
    assert answers_of(pool) == []  # it has been answered
    late = pool.counts.retries - before  # on a busy machine an idle worker may be given it too
    assert 1 <= [line[0] for line in work_log(folder)].count("fail") <= 1 + late
    assert pool.counts.deaths == 0


def test_a_users_mistake_comes_through_as_itself(pool: RayPool) -> None:
    pool.submit(Call("bad", "refuse", ("units.rows",)))
    with pytest.raises(UserError) as caught:
        answers_of(pool)
    assert type(caught.value) is UserError
    assert str(caught.value) == "units.rows is wrong"  # one line, no remote traceback


def test_a_slow_call_runs_elsewhere_and_its_late_answer_is_ignored(pool: RayPool, folder: Path) -> None:
    for number in range(8):  # what is usual here
        pool.submit(Call(number, "echo", (number,)))
    answers_of(pool)
    started, before = time.monotonic(), pool.counts.retries
    pool.submit(Call("key", "sleep_once", (1,)))
    assert [(key, value) for key, (value, _) in answers_of(pool)] == [("key", 1)]
    assert time.monotonic() - started < 1.4
    assert pool.counts.retries == before + 1
    first, second = [line for line in work_log(folder) if line[0] == "sleep_once"]
    assert first[2] != second[2]
    # the same key again, as each step has it; the late answer of the first time must not pass for the new one
    pool.submit(Call("key", "sleep", (2.0,)))
    assert [(key, value) for key, (value, _) in answers_of(pool)] == [("key", 2.0)]


def test_an_answer_that_cannot_be_one_is_discarded_and_its_worker_replaced(
    lines: bool, tmp_path: Path, ray_session: None
) -> None:
    """The worker that gave the first answer is the one that answers wrongly."""
    bad: list[int] = []

    def check(call: Call, answer: Any) -> str | None:
        assert call.arguments[0] == answer[0]
        bad.extend([answer[1]] if not bad else [])
        return f"{answer} is no answer" if answer[1] in bad else None

    with ready(tmp_path, 2, PoolPolicy(), check=check, lines=lines) as pool:
        for number in range(8):
            pool.submit(Call(number, "echo", (number,)))
        answers = dict(answers_of(pool))
        assert {key: value for key, (value, _) in answers.items()} == {number: number for number in range(8)}
        assert not {pid for _, pid in answers.values()} & set(bad)
        assert (pool.counts.faults, pool.counts.deaths, pool.size) == (1, 1, 2)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{bad[0]}").exists():  # it is killed, though it lived
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_wrong_answers_from_everybody_end_the_work(tmp_path: Path, ray_session: None) -> None:
    with ready(tmp_path, 1, PoolPolicy(deaths=2), check=lambda call, answer: "no answer") as pool:
        pool.submit(Call("key", "echo", (0,)))
        with pytest.raises(RuntimeError, match=r"3 workers died one after the other without a sound .*no answer"):
            answers_of(pool)


def test_workers_that_do_not_start_are_told_in_time(tmp_path: Path, ray_session: None) -> None:
    nowhere = RayPool(starter(tmp_path, cpus=64), 2, PoolPolicy(start_seconds=0.3))
    started = time.monotonic()
    with pytest.raises(UserError, match=r"--workers: 2 of 2 actors did not start within 0 s.*ask for fewer"):
        nowhere.wait_ready()
    assert time.monotonic() - started < 5
    nowhere.close()


def test_work_whose_workers_are_all_gone_for_good_ends(tmp_path: Path, ray_session: None) -> None:
    places = iter([starter(tmp_path), starter(tmp_path, cpus=64)])  # then the node is gone: no room for another
    pool = RayPool(lambda: next(places)(), 1, PoolPolicy(nobody_seconds=1.0))
    pool.wait_ready()
    pool.submit(Call("last", "die", (0,)))
    with pytest.raises(RuntimeError, match="all 1 workers are gone and none could be started"):
        answers_of(pool)
    pool.close()
