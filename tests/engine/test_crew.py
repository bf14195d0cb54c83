"""Crews that grow, that serve large networks and those whose copies can't be rows: the same bits; what they are sent."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, SupportsIndex

import pytest
import torch
from small_runs import JOINT, STEPS, crews_watched, digits, outcome, small_config, small_task, train_small
from torch import Tensor, nn

from glr_dist.core.activations import heaviside
from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.checks import make_task
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.plan import Unit
from glr_dist.errors import UserError
from glr_dist.workers.cluster import spare_room
from glr_dist.workers.pool import Call, LocalPool, PoolPolicy, Worker
from glr_dist.workers.ray_pool import RayPool


def residual_model() -> nn.Module:
    """What follows the skip connection has a row per example in one summand and a row per copy in the other."""

    class Residual(nn.Module):  # travels to actors by value, being local
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            hidden = heaviside(self.first(x.flatten(1)))
            return self.last(hidden + heaviside(self.inner(hidden)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    return Residual()


def test_a_network_whose_copies_cannot_be_rows_gives_the_same_bits(tmp_path: Path, ray_session: None) -> None:
    keys: dict[str, Any] = JOINT | {"steps": 3}  # so that the reconstructor runs the noisy passes too
    assert not make_task(small_config(keys), residual_model(), digits(), None).fold
    train_small(tmp_path / "alone", keys, model=residual_model())
    train_small(tmp_path / "crew", keys | {"engine.workers": 1, "engine.reconstructors": 1}, model=residual_model())
    assert outcome(tmp_path / "crew") == outcome(tmp_path / "alone")


def wait_for_room(actors: int) -> None:
    """The cluster's books follow its actors a little later."""
    deadline = time.monotonic() + 30
    while spare_room(threads=1, gpus=0.0) != actors:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_crew_takes_what_the_cluster_has_and_grows_with_it(tmp_path: Path, ray_session: None) -> None:
    """Three of four CPUs are busy until step 4: one evaluator, then four, and the bits of one process."""
    import ray

    class Busy:
        def ping(self) -> None:
            pass

    busy: Any = ray.remote(num_cpus=3)(Busy)
    busy = busy.remote()
    ray.get(busy.ping.remote(), timeout=30)
    wait_for_room(1)
    sizes: list[int] = []
    at_work: list[bool] = []

    def show(progress: Progress) -> None:
        pool = crews[0].evaluators
        sizes.append(pool.size)
        if progress.step == 4:
            ray.kill(busy)
            wait_for_room(3)
        elif progress.step == 5:
            pool.wait_ready()
        at_work[:] = [bool(member.answered) for member in pool.members()]

    with crews_watched(PoolPolicy(grow_seconds=0.0)) as crews:
        result = train_small(tmp_path / "crew", {"engine.workers": -1}, show=show)
    assert sizes == [1] * 4 + [4] * (STEPS - 4)
    assert (result.workers, result.workers_lost) == (4, 0)
    assert sum(at_work) >= 2  # those who came later have had calls too
    train_small(tmp_path / "alone")
    assert outcome(tmp_path / "crew") == outcome(tmp_path / "alone")


def test_no_unit_travels(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker cuts the step into units itself."""
    task = small_task()

    def never(self: Unit, protocol: SupportsIndex) -> Any:
        raise AssertionError("pickled")

    monkeypatch.setattr(Unit, "__reduce_ex__", never)
    crew = assemble_crew(task, EngineConfig(workers=1))
    crew.gradient(flat_parameters(task.model).numpy(), 0)
    crew.close()


def test_units_in_flight_are_units_not_calls_and_each_is_counted_once() -> None:
    calls = [Call((0, 1, 2), "evaluate"), Call((3,), "evaluate"), Call((4, 5), "evaluate")]
    members = [Worker(0, None, None), Worker(1, None, None)]
    for member, held in zip(members, (calls[:2], calls[1:]), strict=True):
        member.in_hand = {call.key: (call, 0.0) for call in held}
    evaluators: Any = SimpleNamespace(members=lambda: members)
    assert Crew(small_task(), evaluators, LocalPool(None)).units_in_flight == 6


def test_actors_are_let_go_when_others_cannot_start(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[RayPool] = []

    def start(*arguments: Any, **options: Any) -> RayPool:
        if started:
            raise UserError("no reconstructor")
        started.append(RayPool(*arguments, **options))
        return started[0]

    monkeypatch.setattr("glr_dist.engine.assembly.RayPool", start)
    wait_for_room(4)
    with pytest.raises(UserError, match="no reconstructor"):
        assemble_crew(small_task(), EngineConfig(workers=2, reconstructors=1))
    assert started[0].members() == []
    wait_for_room(4)


def test_bytes_down_are_one_calls_parameters_a_step_and_worker(tmp_path: Path, ray_session: None) -> None:
    result = train_small(tmp_path / "run", {"steps": 3, "engine.workers": 1})
    parameters = 64 * 12 + 12 + 12 * 10 + 10
    assert 3 * 4 * parameters < result.bytes_down < 3 * (4 * parameters + 500)  # and what says which share is wanted


def test_parameters_of_more_than_a_megabyte_give_the_same_bits(tmp_path: Path, ray_session: None) -> None:
    keys: dict[str, Any] = {"model.hidden": [3500], "steps": 3, "estimator.copies": 4, "noise.table_size": 2**18}
    assert 4 * sum(p.numel() for p in small_task(keys).model.parameters()) > 1_000_000
    train_small(tmp_path / "alone", keys)
    train_small(tmp_path / "crew", keys | {"engine.workers": 1, "engine.reconstructors": 1})
    assert outcome(tmp_path / "crew") == outcome(tmp_path / "alone")
