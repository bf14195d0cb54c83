"""Evaluation by actors: the same report as in this process, for any number of them, and when they are killed half-way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from small_nets import digits, network, timeless

from glr_dist.attacks.attack import named_attack
from glr_dist.errors import UserError
from glr_dist.robustness import actors
from glr_dist.robustness.actors import RayCrew
from glr_dist.robustness.evaluation import attack_set, evaluate_robustness
from glr_dist.robustness.findings import Findings
from glr_dist.robustness.generation import Generator, Order, Writer
from glr_dist.robustness.plan import jobs_of
from glr_dist.robustness.selection import Selection

FGSM = named_attack("fgsm", epsilon=0.1)
ATTACKS = [FGSM, named_attack("random-signs", epsilon=0.1, draws=30)]
CHUNKS = 2 * 4 + 4 + 4 + 4  # 2 surrogates, random signs, clean samples, a corruption; 359 samples


def evaluated(**how: Any) -> Findings:
    return evaluate_robustness(
        [network("heaviside")],
        digits(),
        attacks=ATTACKS,
        surrogates=[network("relu"), network("sigmoid")],
        corruptions=["gaussian"],
        **how,
    )


@pytest.fixture
def crews(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> list[RayCrew]:
    """The crews that evaluations assemble."""
    seen: list[RayCrew] = []

    class Watched(RayCrew):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            seen.append(self)

    monkeypatch.setattr(actors, "RayCrew", Watched)
    return seen


def kill(actor: Any) -> None:
    import ray

    os.kill(ray.get(actor.__ray_call__.remote(lambda self: os.getpid()), timeout=60), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_actors_finds_the_same(crews: list[RayCrew], workers: int) -> None:
    findings = evaluated(workers=workers, generators=workers)
    assert (len(crews[0].consumers), len(crews[0].generators)) == (workers, workers)
    assert timeless(findings) == timeless(evaluated())


def test_killing_actors_half_way_changes_nothing(crews: list[RayCrew]) -> None:
    victims = []

    def show(done: int, jobs: int, last: str) -> None:
        assert jobs == CHUNKS
        if done == CHUNKS // 2:
            victims.extend([crews[0].generators[0], crews[0].consumers[0]])
            for victim in victims:
                kill(victim)

    findings = evaluated(workers=2, show=show)
    assert victims
    assert timeless(findings) == timeless(evaluated())


def test_samples_that_died_with_their_generator_are_made_again(ray_session: None, tmp_path: Path) -> None:
    import ray

    generator, writer = Generator([network()], digits(), "test", 0), Writer(str(tmp_path))
    crew = RayCrew(generator, writer, generators=1, consumers=1, cpus=(0, 1))
    job = next(jobs_of([Order(0, FGSM)], Selection().of(digits())))
    made = ray.get(crew.generators[0].generate.remote([ray.put(generator)], job))
    kill(crew.generators[0])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # a while, until its death gets around
        if ray.get(crew.consumers[0].consume.remote([ray.put(writer)], job, made)) == "lost":
            break
    else:
        pytest.fail("the samples outlived their generator")
    crew._ready.append((job, made))
    ((answered, written),) = crew.run([])
    crew.close()
    assert (answered.number, written.file["rows"]) == (job.number, 100)


def test_a_set_written_by_actors_is_the_same_bytes(crews: list[RayCrew], tmp_path: Path) -> None:
    attack_set(network(), digits(), FGSM, str(tmp_path / "here"))
    killed = []

    def show(done: int, jobs: int, last: str) -> None:
        if done == 1:
            killed.append(crews[0].consumers[0])
            kill(killed[0])

    attack_set(network(), digits(), FGSM, str(tmp_path / "there"), workers=2, show=show)
    assert killed
    assert {f.name: f.read_bytes() for f in (tmp_path / "here").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "there").iterdir()
    }


def test_a_mistake_that_an_actor_finds_is_told_as_one(ray_session: None, tmp_path: Path) -> None:
    where = str(tmp_path / "set")
    attack_set(network(), digits(), FGSM, where, selection=Selection(count=50))

    def show(done: int, jobs: int, last: str) -> None:
        (tmp_path / "set" / "samples-00000.parquet").write_bytes(b"no Parquet")

    with pytest.raises(UserError, match="no Parquet file"):
        evaluate_robustness([network()], digits(), samples=[where], attacks=ATTACKS[1:], workers=1, show=show)
