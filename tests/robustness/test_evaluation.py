"""The door: each part of what an evaluation finds against the same thing done by hand."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_nets import digits, network, voter
from torch.nn.functional import cross_entropy

from glr_dist.attacks.ascent import Fgsm
from glr_dist.attacks.attack import named_attack
from glr_dist.core.config import NoiseConfig
from glr_dist.corruptions.corruption import corrupt
from glr_dist.errors import UserError
from glr_dist.robustness.evaluation import evaluate_robustness
from glr_dist.robustness.findings import AttackOutcome, Findings
from glr_dist.robustness.making import attack_set
from glr_dist.robustness.selection import Selection, rows_at
from glr_dist.robustness.subjects import Subject

FGSM = named_attack("fgsm", epsilon=0.15)
BPDA = named_attack("bpda-pgd", epsilon=0.05, steps=5)
EXACT = named_attack("exact", epsilon=0.05)
FEW = Selection(count=130, seed=1)


def chosen(selection: Selection = FEW) -> tuple[torch.Tensor, torch.Tensor]:
    return rows_at(digits(), selection.split, selection.of(digits()))


def told(subject: Subject, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(subject.model(x).argmax(1))


def fgsm_on(subject: Subject, epsilon: float) -> torch.Tensor:
    x, labels = chosen()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(subject.model(x), labels), x)
    return (x.detach() + epsilon * gradient.sign()).clamp(0, 1)


def evaluated(*subjects: Subject, **how: Any) -> Findings:
    return evaluate_robustness(subjects, digits(), **{"selection": FEW, **how})


def test_clean_predictions_and_who_is_who() -> None:
    findings = evaluated(network("heaviside"), network("heaviside", 1), network("relu"))
    x, labels = chosen()
    assert np.array_equal(findings.labels, labels.numpy())
    assert np.array_equal(findings.indices, FEW.of(digits()))
    assert [card.name for card in findings.models] == ["heaviside 12", "heaviside 12", "relu 12"]
    assert [card.noise for card in findings.models] == ["gaussian 0.5", "gaussian 0.5", ""]
    for card, subject in zip(findings.models, (network("heaviside"), network("heaviside", 1)), strict=False):
        assert np.array_equal(card.right, told(subject, x) == labels.numpy())
    assert findings.data["classes"] == 10
    assert findings.data["selected"] == "130 of 359, by seed 1"


def test_transferred_fgsm_is_made_on_the_surrogate_and_seen_by_all() -> None:
    subjects, surrogates = (network("heaviside"), network("sigmoid")), (network("relu"), network("relu", 1))
    findings = evaluated(*subjects, attacks=[FGSM], surrogates=surrogates)
    x, labels = chosen()
    assert len(findings.attacks) == 4
    for outcome in findings.attacks:
        assert outcome.knowledge == "transfer"
        assert outcome.surrogate is not None
        moved = fgsm_on(surrogates[outcome.surrogate], 0.15)
        assert np.array_equal(outcome.right, told(subjects[outcome.model], moved) == labels.numpy())
    for index, surrogate in enumerate(surrogates):
        assert findings.surrogates[index].sha256 == surrogate.sha256
        assert np.array_equal(findings.surrogates[index].right, told(surrogate, x) == labels.numpy())
        own = next(outcome for outcome in findings.surrogate_attacks if outcome.model == index)
        assert np.array_equal(own.right, told(surrogate, fgsm_on(surrogate, 0.15)) == labels.numpy())


def test_without_a_surrogate_each_network_is_attacked_on_its_own_gradient() -> None:
    findings = evaluated(network("relu"), network("sigmoid"), attacks=[FGSM])
    _, labels = chosen()
    for outcome, subject in zip(findings.attacks, (network("relu"), network("sigmoid")), strict=True):
        assert (outcome.knowledge, outcome.surrogate) == ("white-box", None)
        assert np.array_equal(outcome.right, told(subject, fgsm_on(subject, 0.15)) == labels.numpy())


def test_a_surrogate_that_is_the_network_itself_is_white_box_and_warned_of() -> None:
    said: list[str] = []
    findings = evaluated(
        network("relu"), network("sigmoid"), attacks=[FGSM], surrogates=[network("relu")], say=said.append
    )
    assert [outcome.knowledge for outcome in findings.attacks] == ["white-box", "transfer"]
    assert [outcome.surrogate for outcome in findings.attacks] == [None, 0]
    assert len(said) == 1
    assert "white-box, not transfer" in said[0]


def test_a_stored_set_is_what_was_made_on_the_way(tmp_path: Path) -> None:
    attack_set(network("relu"), digits(), FGSM, str(tmp_path / "set"), selection=FEW)
    made = evaluated(network("heaviside"), network("relu"), attacks=[FGSM], surrogates=[network("relu")])
    # another choice: what the set holds
    stored = evaluated(
        network("heaviside"), network("relu"), samples=[str(tmp_path / "set")], selection=Selection(seed=7)
    )
    assert np.array_equal(stored.indices, made.indices)
    for one, other in zip(made.attacks, stored.attacks, strict=True):
        assert np.array_equal(one.right, other.right)
        assert (one.knowledge, one.attack, one.queries) == (other.knowledge, other.attack, other.queries)
    assert stored.data["selected"] == "130 of 359, those of the stored sets"
    assert dataclasses.replace(stored.surrogates[0], right=None) == dataclasses.replace(made.surrogates[0], right=None)
    assert np.array_equal(stored.surrogates[0].right, made.surrogates[0].right)
    with pytest.raises(UserError, match=r"lacks \d+ of the 200 selected samples"):
        evaluated(network("heaviside"), samples=[str(tmp_path / "set")], selection=Selection(count=200))


def test_a_stored_set_tells_of_samples_that_had_no_gradient(tmp_path: Path) -> None:
    surrogate = network("relu")
    model = copy.deepcopy(surrogate.model)
    for values in list(model.parameters())[-2:]:
        values.mul_(1e5)  # the same classes, told with a certainty of 1: the loss is flat where they are right
    sure = dataclasses.replace(surrogate, model=model, sha256="sure")
    attack_set(sure, digits(), FGSM, str(tmp_path / "set"), selection=FEW)
    made = evaluated(network("heaviside"), attacks=[FGSM], surrogates=[sure])
    stored = evaluated(network("heaviside"), samples=[str(tmp_path / "set")])
    assert made.attacks[0].without_gradient > 60
    for one, other in zip(
        (*made.attacks, *made.surrogate_attacks), (*stored.attacks, *stored.surrogate_attacks), strict=True
    ):
        assert one.without_gradient == other.without_gradient


def test_what_a_stored_set_knows_depends_on_whose_it_is(tmp_path: Path) -> None:
    signs = named_attack("random-signs", epsilon=0.15, draws=20)
    box = named_attack("square", epsilon=0.15, queries=20)
    folders = [str(tmp_path / attack.name) for attack in (signs, box)]
    for attack, folder in zip((signs, box), folders, strict=True):
        attack_set(network("relu"), digits(), attack, folder, selection=Selection(count=20))
    findings = evaluated(network("relu"), network("heaviside"), samples=folders, selection=Selection())
    assert [(o.attack.name, o.model, o.knowledge) for o in findings.attacks] == [
        ("random-signs", 0, "none"),
        ("random-signs", 1, "none"),
        ("square", 0, "scores"),
        ("square", 1, "transfer"),
    ]
    # of the draws on its own network a sample keeps the one that fools; another network sees that one alone
    assert [o.attack.draws for o in findings.attacks[:2]] == [20, 1]


def test_exact_is_never_above_an_attack_and_leaves_out_what_it_cannot_decide() -> None:
    said: list[str] = []
    few = Selection(count=25)
    findings = evaluated(network("relu"), network("heaviside"), attacks=[BPDA, EXACT], selection=few, say=said.append)
    bpda = next(o for o in findings.attacks if o.attack.name == "bpda-pgd" and o.model == 1)
    (exact,) = (o for o in findings.attacks if o.attack.name == "exact")
    assert (exact.model, exact.knowledge) == (1, "exact")
    assert exact.undecided is not None
    assert not (exact.right & ~bpda.right).any()
    assert 0 < exact.right.sum() <= bpda.right.sum() < 25
    assert len(said) == 1
    assert "nets/relu-12-0" in said[0]
    smaller = dataclasses.replace(EXACT, epsilon=0.01)
    evaluated(
        network("relu"), network("heaviside"), attacks=[EXACT, smaller], selection=Selection(count=2), say=said.append
    )
    assert len(said) == 2
    with pytest.raises(UserError, match="nets/relu-12-0"):
        evaluated(network("relu"), attacks=[EXACT], selection=few)


def test_corruptions_are_those_of_the_library_by_network_and_severity() -> None:
    subjects = (network("relu"), network("heaviside"))
    findings = evaluated(*subjects, corruptions=["contrast", "impulse"], seed=5)
    x, labels = chosen()
    assert len(findings.corruptions) == 2 * 2 * 5
    for outcome in findings.corruptions:
        moved = corrupt(outcome.corruption, x, outcome.severity, seed=5, indices=findings.indices)
        assert np.array_equal(outcome.right, told(subjects[outcome.model], moved) == labels.numpy())


def test_votes_of_vanishing_noise_change_nothing_and_of_strong_noise_much() -> None:
    def right(scale: float, votes: int) -> np.ndarray:
        subject = network("heaviside")
        subject = dataclasses.replace(subject, voter=voter(subject.model, NoiseConfig(scale=scale)))
        findings = evaluated(subject, attacks=[FGSM], surrogates=[network("relu")], votes=votes)
        assert findings.models[0].votes == votes
        return np.concatenate([findings.models[0].right, findings.attacks[0].right])

    assert np.array_equal(right(1e-7, 3), right(1e-7, 0))
    assert right(30.0, 1).mean() < 0.4


def test_noise_that_stays_on_is_attacked_in_expectation() -> None:
    eot = named_attack("eot-pgd", epsilon=0.15, steps=4, draws=4)
    few = Selection(count=40)
    (outcome,) = evaluated(network("heaviside"), attacks=[eot], votes=3, selection=few).attacks
    clean = evaluated(network("heaviside"), votes=3, selection=few).models[0].right
    assert outcome.knowledge == "white-box"
    assert outcome.right.mean() < clean.mean() - 0.2


def test_samples_to_look_at_are_chosen_by_seed_and_are_those_of_the_attack() -> None:
    findings = evaluated(network("heaviside"), network("heaviside", 1), attacks=[FGSM], surrogates=[network("relu")])
    (view,) = findings.specimens  # one for the two seeds of one name
    outcome: AttackOutcome = findings.attacks[view.outcome]
    x, labels = chosen()
    moved = fgsm_on(network("relu"), 0.15)
    places = [int(np.flatnonzero([np.array_equal(image, c) for c in x.numpy()])[0]) for image in view.clean]
    assert len(places) == 8
    assert np.array_equal(view.labels, labels[places].numpy())
    np.testing.assert_allclose(view.adversarial, moved[places].numpy(), atol=1e-6)
    assert np.array_equal(view.after == view.labels, outcome.right[places])
    assert np.array_equal(view.before, told(network("heaviside"), x)[places])


def test_the_same_attack_twice_is_done_once() -> None:
    assert len(evaluated(network("relu"), attacks=[FGSM, FGSM]).attacks) == 1


@pytest.mark.parametrize(
    ("how", "mention"),
    [
        ({"attacks": [FGSM]}, "nets/heaviside-12-0: the network has no gradient"),
        ({"attacks": [FGSM], "surrogates": [network("heaviside", 1)]}, "nets/heaviside-12-1: the network has no grad"),
        ({"attacks": [Fgsm(epsilon=-0.1)]}, "--epsilon -0.1"),
        ({"attacks": [named_attack("eot-pgd", epsilon=0.1)]}, "give --votes"),
        ({"attacks": [EXACT], "votes": 2}, "leave --votes out"),
        ({"surrogates": [network("relu")]}, "--surrogate: is for attacks that follow"),
        ({"corruptions": ["gausian"]}, "did you mean 'gaussian'"),
        ({"votes": -1}, "--votes -1"),
        ({"selection": Selection(count=0)}, "--count 0"),
        ({"samples": ["none"]}, "there is no meta.json"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(how: dict[str, Any], mention: str) -> None:
    with pytest.raises(UserError, match=mention) as caught:
        evaluated(network("heaviside"), **how)
    assert "\n" not in str(caught.value)
