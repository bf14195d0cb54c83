"""Evaluation by actors: the same report as in this process, for any number of them, and when they die or dawdle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty_attack
import pytest
from faulty_attack import FaultyFgsm
from ray import cloudpickle
from small_nets import digits, network, timeless

from glr_dist.attacks.ascent import Fgsm
from glr_dist.attacks.attack import ATTACKS
from glr_dist.attacks.random_signs import RandomSigns
from glr_dist.errors import UserError
from glr_dist.robustness.evaluation import evaluate_robustness
from glr_dist.robustness.findings import Findings
from glr_dist.robustness.making import attack_set
from glr_dist.robustness.selection import Selection
from glr_dist.workers.pool import PoolPolicy

pytestmark = pytest.mark.usefixtures("ray_session")
FGSM, SIGNS = Fgsm(epsilon=0.1), RandomSigns(epsilon=0.1, draws=30)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As an attack of the caller's own script, whose class travels to the actors by value."""
    monkeypatch.setitem(ATTACKS, FaultyFgsm.name, FaultyFgsm)
    cloudpickle.register_pickle_by_value(faulty_attack)
    yield
    cloudpickle.unregister_pickle_by_value(faulty_attack)


def evaluated(attack: Fgsm = FGSM, **how: Any) -> Findings:
    return evaluate_robustness(
        [network("heaviside")],
        digits(),
        attacks=[attack, SIGNS],
        surrogates=[network("relu"), network("sigmoid")],
        corruptions=["gaussian"],
        **how,
    )


@pytest.mark.parametrize(("workers", "generators"), [(1, 1), (2, 1)])
def test_any_number_of_actors_finds_the_same(workers: int, generators: int) -> None:
    seen: list[int] = []
    findings = evaluated(workers=workers, generators=generators, show=lambda done, jobs, last: seen.append(jobs))
    assert seen == [2 * 4 + 4 + 4 + 4] * 20  # 2 surrogates, random signs, clean samples, a corruption; 359 samples
    assert timeless(findings) == timeless(evaluated())


def test_a_generator_that_dies_changes_nothing(tmp_path: Path) -> None:
    findings = evaluated(FaultyFgsm(epsilon=0.1, folder=str(tmp_path), times=2), workers=2)
    assert len(list(tmp_path.iterdir())) == 2
    assert timeless(findings) == timeless(evaluated(FaultyFgsm(epsilon=0.1)))


def test_an_evaluator_that_dies_changes_nothing(tmp_path: Path) -> None:
    def direct(folder: str, workers: int) -> str:
        attack = FaultyFgsm(epsilon=0.1, folder=folder)
        return timeless(evaluate_robustness([network("relu")], digits(), attacks=[attack], workers=workers))

    assert direct(str(tmp_path), 2) == direct("", 0)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_call_that_kills_its_actor_again_and_again_ends_with_a_clear_error(tmp_path: Path) -> None:
    attack = FaultyFgsm(epsilon=0.1, folder=str(tmp_path), times=1000)
    with pytest.raises(RuntimeError, match="died"):
        evaluate_robustness([network("relu")], digits(), attacks=[attack], workers=1, policy=PoolPolicy(deaths=2))
    assert 3 <= len(list(tmp_path.iterdir())) <= 4


def test_a_straggler_is_overtaken(tmp_path: Path) -> None:
    attack = FaultyFgsm(epsilon=0.1, folder=str(tmp_path), sleep=900.0)
    began = time.monotonic()
    findings = evaluate_robustness([network("relu")], digits(), attacks=[attack], workers=2)
    assert time.monotonic() - began < 250
    assert timeless(findings) == timeless(
        evaluate_robustness([network("relu")], digits(), attacks=[FaultyFgsm(epsilon=0.1)])
    )


def test_a_set_made_by_actors_is_the_same_bytes(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    few = Selection(count=150)
    attack_set(network(), digits(), FaultyFgsm(epsilon=0.1), str(tmp_path / "here"), selection=few)
    dying = FaultyFgsm(epsilon=0.1, folder=str(notes))
    attack_set(network(), digits(), dying, str(tmp_path / "there"), selection=few, workers=2)
    assert list(notes.iterdir())
    assert {f.name: f.read_bytes() for f in (tmp_path / "here").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "there").iterdir()
    }


def test_a_mistake_that_an_actor_finds_is_told_as_one(tmp_path: Path) -> None:
    where = str(tmp_path / "set")
    attack_set(network(), digits(), FGSM, where, selection=Selection(count=50))

    def show(done: int, jobs: int, last: str) -> None:
        (tmp_path / "set" / "samples-00000.parquet").write_bytes(b"no Parquet")

    with pytest.raises(UserError, match="no Parquet file"):
        evaluate_robustness([network()], digits(), samples=[where], attacks=[SIGNS], workers=1, show=show)
