"""What is asked for against what the cluster has, told before anything waits; the tests' Ray has 4 CPUs and no GPU."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_task

import glr_dist
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig
from glr_dist.errors import UserError
from glr_dist.workers.cluster import connected, workers_available


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"workers": 3, "reconstructors": 1}, 3),
        ({"workers": 0, "reconstructors": 4}, 0),
        ({"workers": -1, "reconstructors": 0, "most": 100}, 4),
        ({"workers": -1, "reconstructors": 1, "most": 100}, 3),
        ({"workers": -1, "reconstructors": 0, "threads": 2, "most": 100}, 2),
        ({"workers": -1, "reconstructors": 1, "generators": 1, "most": 100}, 2),
        ({"workers": 0, "reconstructors": 0, "generators": 4}, 0),
        ({"workers": -1, "reconstructors": 0, "most": 2}, 2),  # 2 units a step: a third worker would idle
    ],
)
def test_room_is_counted_in_actors(asked: dict[str, Any], expected: int, ray_session: None) -> None:
    assert workers_available(**{"threads": 1, "gpus": 0.0, "most": 8} | asked) == expected


@pytest.mark.parametrize(
    ("asked", "needs"),
    [
        ({"workers": 5, "reconstructors": 0}, "needs 5 CPUs and 0 GPUs"),
        ({"workers": 0, "reconstructors": 9}, "needs 9 CPUs and 0 GPUs"),
        ({"workers": 2, "reconstructors": 1, "threads": 2}, "needs 6 CPUs and 0 GPUs"),
        ({"workers": 2, "reconstructors": 0, "gpus": 0.5}, "needs 2 CPUs and 1 GPUs"),
        ({"workers": -1, "reconstructors": 4}, "needs 5 CPUs and 0 GPUs"),
        ({"workers": 2, "reconstructors": 1, "generators": 2}, "--generators 2: needs 5 CPUs and 0 GPUs"),
        ({"workers": 0, "reconstructors": 0, "generators": 5}, "needs 5 CPUs and 0 GPUs"),
        ({"workers": 1, "reconstructors": 0, "generators": 1, "gpus": 1.0}, "needs 2 CPUs and 1 GPUs"),
    ],
)
def test_too_much_is_refused_at_once_and_says_what_there_is(
    asked: dict[str, Any], needs: str, ray_session: None
) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=f"{needs}, the cluster has 4 CPUs .* and 0 GPUs .*; lower them or add nodes"):
        workers_available(**{"threads": 1, "gpus": 0.0, "most": 8} | asked)
    assert time.monotonic() - started < 3


def test_ray_is_asked_through_its_public_calls_alone() -> None:
    sources = list(Path(glr_dist.__file__).parent.rglob("*.py"))
    assert len(sources) > 100
    private = re.compile(r'(?<!getLogger\(")ray\._private')  # a logger has such a name
    assert [path for path in sources if private.search(path.read_text(encoding="utf-8"))] == []


def test_a_connection_that_is_there_is_used_and_left(ray_session: None) -> None:
    import ray

    with connected():
        pass
    assert ray.is_initialized()


@pytest.mark.parametrize(("workers", "reconstructors"), [(2, 0), (-1, 0), (0, 1)])
def test_a_generator_is_refused_where_devices_differ(workers: int, reconstructors: int) -> None:
    """One on a GPU, the other on the CPU would draw different noise from one seed: wrong, and nobody would notice."""
    engine = EngineConfig(workers=workers, reconstructors=reconstructors, gpus_per_worker=1.0, reconstruct="driver")
    with pytest.raises(UserError, match=r"noise.source = 'generator'.*use noise.source = 'table'"):
        assemble_crew(small_task({"noise.source": "generator"}), engine)


def test_the_table_is_fine_where_devices_differ(ray_session: None) -> None:
    with pytest.raises(UserError, match="needs 2 CPUs and 2 GPUs"):  # got as far as looking for GPUs
        assemble_crew(small_task(), EngineConfig(workers=2, gpus_per_worker=1.0))


def test_an_ipv6_address_of_ray_is_knocked_at_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def nobody(address: tuple[str, int], timeout: float) -> Any:
        asked.append(address)
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr("socket.create_connection", nobody)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "[::1]:6379")
    with (
        pytest.raises(
            UserError, match=r"RAY_ADDRESS = \[::1\]:6379: no Ray cluster answers there \(Connection refused"
        ),
        connected(),
    ):
        pass
    assert asked == [("::1", 6379)]
