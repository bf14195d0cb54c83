from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from made_findings import card, findings, first, mask, outcome

from glr_dist.robustness.findings import AttackOutcome, Findings
from glr_dist.robustness.report.verdicts import RULES, Verdict, red_line, too_weak, verdicts

ITERATIVE, ADAPTIVE, GROWS, REACHES, NOISE, EXACT, RANKED, GRADIENTS = RULES


def judged(attacks: list[AttackOutcome], rule: str, **others: Any) -> Verdict:
    """The verdict of one rule on one network that gets 95 of 100 right."""
    found = verdicts(findings([card("net", first(95))], attacks, **others))
    (verdict,) = [verdict for verdict in found if verdict.rule == rule]
    return verdict


def surrogate() -> dict[str, Any]:
    return {"surrogates": [card("rival", first(98))]}


@pytest.mark.parametrize(
    ("rule", "holds", "attacks"),
    [
        (ITERATIVE, True, [("fgsm", 0.1, 40, "white-box"), ("pgd", 0.1, 30, "white-box")]),
        (ITERATIVE, False, [("fgsm", 0.1, 30, "white-box"), ("pgd", 0.1, 40, "white-box")]),
        (ITERATIVE, True, [("fgsm", 0.1, 36, "white-box"), ("pgd", 0.1, 40, "white-box")]),  # 4 <= 1 + 2 sqrt(4)
        (ITERATIVE, False, [("fgsm", 0.1, 34, "white-box"), ("pgd", 0.1, 40, "white-box")]),  # 6 > 1 + 2 sqrt(6)
        (ITERATIVE, None, [("fgsm", 0.1, 30, "white-box"), ("pgd", 0.2, 40, "white-box")]),
        (ITERATIVE, None, [("fgsm", 0.1, 30, "transfer"), ("pgd", 0.1, 40, "white-box")]),
        (ADAPTIVE, True, [("fgsm", 0.1, 40, "transfer"), ("bpda-pgd", 0.1, 12, "")]),
        (ADAPTIVE, False, [("fgsm", 0.1, 40, "transfer"), ("bpda-pgd", 0.1, 60, "")]),
        (ADAPTIVE, True, [("fgsm", 0.1, 40, "transfer"), ("bpda-pgd", 0.1, 60, ""), ("square", 0.1, 30, "")]),
        (ADAPTIVE, False, [("pgd", 0.1, 40, "transfer"), ("hopskipjump", 0.1, 60, "")]),
        (ADAPTIVE, None, [("fgsm", 0.1, 40, "transfer"), ("random-signs", 0.1, 90, "")]),
        (ADAPTIVE, None, [("fgsm", 0.1, 40, "transfer"), ("bpda-pgd", 0.2, 60, "")]),
        (GROWS, True, [("square", 0.1, 40, ""), ("square", 0.2, 20, "")]),
        (GROWS, False, [("square", 0.1, 40, ""), ("square", 0.2, 60, "")]),
        (GROWS, None, [("square", 0.1, 40, ""), ("bpda-pgd", 0.2, 60, "")]),
        (GROWS, None, [("exact", 0.1, 40, ""), ("exact", 0.2, 60, "")]),
        (REACHES, True, [("square", 0.5, 9, "")]),
        (REACHES, True, [("square", 0.5, 60, ""), ("square", 0.7, 0, "")]),
        (REACHES, False, [("square", 0.5, 40, "")]),
        (REACHES, None, [("square", 0.4, 40, "")]),
        (REACHES, None, [("random-signs", 0.5, 40, "")]),
        (NOISE, True, [("random-signs", 0.1, 80, ""), ("fgsm", 0.1, 40, "transfer")]),
        (NOISE, False, [("random-signs", 0.1, 40, ""), ("fgsm", 0.1, 80, "transfer")]),
        (NOISE, None, [("random-signs", 0.1, 40, ""), ("fgsm", 0.2, 80, "transfer")]),
        (EXACT, True, [("exact", 0.1, 30, ""), ("square", 0.1, 30, "")]),
        (EXACT, False, [("exact", 0.1, 31, ""), ("square", 0.1, 30, "")]),
        (EXACT, False, [("exact", 0.1, 31, ""), ("square", 0.05, 30, "")]),
        (EXACT, False, [("exact", 0.2, 40, ""), ("exact", 0.1, 30, "")]),
        (EXACT, True, [("exact", 0.1, 40, ""), ("exact", 0.2, 30, "")]),
        (EXACT, None, [("exact", 0.1, 31, ""), ("square", 0.2, 30, "")]),
        (EXACT, None, [("square", 0.1, 30, "")]),
        (EXACT, False, [("exact", 0.1, 96, "")]),  # a sample that is wrong without an attack, proved safe
        (GRADIENTS, True, [("fgsm", 0.1, 30, "white-box")]),
        (GRADIENTS, None, [("square", 0.1, 30, "")]),
    ],
)
def test_a_rule_flips_where_it_should(
    rule: str, holds: bool | None, attacks: list[tuple[str, float, int, str]]
) -> None:
    made = [
        outcome(name, epsilon, first(right), knowledge, surrogate=0 if knowledge == "transfer" else None)
        for name, epsilon, right, knowledge in attacks
    ]
    assert judged(made, rule, **surrogate()).holds is holds


def test_equal_counts_of_other_samples_are_no_weakness() -> None:
    assert not too_weak(mask("10x50"), mask("01x50"))


def test_noise_between_equal_attacks_is_rarely_taken_for_weakness() -> None:
    """Two attacks that break each sample with the same probability: 2 standard deviations and a sample."""
    rng = np.random.default_rng(0)
    pairs = rng.random((2000, 2, 200)) < 0.6
    assert np.mean([too_weak(strong, weak) for strong, weak in pairs]) < 0.025


def test_more_steps_may_transfer_worse() -> None:
    made = [
        outcome("fgsm", 0.1, first(30), "transfer", surrogate=0),
        outcome("pgd", 0.1, first(60), "transfer", surrogate=0),
    ]
    assert judged(made, ITERATIVE, surrogates=[card("rival", first(98))]).holds is None


def test_a_contradiction_names_the_samples_and_the_attack() -> None:
    right = first(95)
    right[[3, 7]] = False
    verdict = judged([outcome("exact", 0.1, first(20)), outcome("square", 0.1, right)], EXACT)
    assert verdict.holds is False
    assert verdict.detail == (
        "CONTRADICTION: 2 of 20 proved safe at 0.1 are wrong under square (at most 5000 queries) at 0.1"
        " (samples 1003, 1007): the proof or the attack is in error"
    )


def test_an_undecided_sample_of_a_smaller_ball_contradicts_nothing() -> None:
    smaller = outcome("exact", 0.1, first(30), undecided=first(40) & ~first(30))
    assert judged([smaller, outcome("exact", 0.2, first(40))], EXACT).holds is True


def test_a_network_attacked_by_transfer_alone_is_not_ranked_beside_one_attacked_itself() -> None:
    models = [card("glr", first(95)), card("bp", first(97), activation="relu")]
    alone = [
        outcome("pgd", 0.1, first(29), "transfer", surrogate=0),
        outcome("pgd", 0.1, first(4), "white-box", model=1),
    ]

    def ranked(attacks: list[AttackOutcome]) -> dict[str, Verdict]:
        found = verdicts(findings(models, attacks, **surrogate()))
        return {verdict.model: verdict for verdict in found if verdict.rule == RANKED}

    failed = ranked(alone)["glr"]
    assert failed.holds is False
    assert "at 0.1 by transfer alone, bp by attacks on itself: the two figures can't be ranked" in failed.detail
    assert failed.detail.endswith("add --attack bpda-pgd")
    assert ranked(alone)["bp"].holds is None  # nothing transferred to it
    assert ranked([*alone, outcome("bpda-pgd", 0.1, first(1))])["glr"].holds is True
    assert ranked([*alone, outcome("exact", 0.1, first(0))])["glr"].holds is True
    assert ranked([*alone, outcome("bpda-pgd", 0.2, first(1))])["glr"].holds is False  # another size
    both = [outcome("pgd", 0.1, first(29), "transfer", surrogate=0, model=model) for model in (0, 1)]
    assert ranked(both)["glr"].holds is None


def test_one_bad_seed_fails_the_group_and_is_named() -> None:
    made = [
        outcome("square", size, first(right), model=model)
        for model in range(2)
        for size, right in ((0.1, 40), (0.2, 20))
    ]
    made.append(outcome("square", 0.3, first(90), model=1))
    found = verdicts(findings([card("net", first(95), seed) for seed in (4, 5)], made))
    (verdict,) = [verdict for verdict in found if verdict.rule == GROWS]
    assert verdict.holds is False
    assert verdict.detail == (
        "seed 5: square (at most 5000 queries) at 0.3 leaves 90 of 100 right,"
        " square (at most 5000 queries) at 0.2 leaves 20"
    )


def test_an_attack_that_repairs_the_network_fails_even_alone() -> None:
    found = verdicts(findings([card("net", first(50))], [outcome("square", 0.1, first(80))]))
    assert {verdict.rule: verdict.holds for verdict in found}[GROWS] is False


def test_chance_depends_on_the_classes() -> None:
    made = [outcome("square", 0.5, first(40))]
    assert judged(made, REACHES, classes=2).holds is True
    verdict = judged(made, REACHES, classes=10)
    assert verdict.detail == "40.0% are right at 0.5 under all attacks; chance is 10.0% +- 7.0%"  # 1/100 + 2 * 0.03


def test_a_surrogate_is_judged_by_the_attacks_on_itself() -> None:
    own = [outcome("fgsm", 0.1, first(30), "white-box"), outcome("pgd", 0.1, first(60), "white-box")]
    made: Findings = findings([card("net", first(95))], surrogate_attacks=own, **surrogate())
    found = {(verdict.model, verdict.rule): verdict.holds for verdict in verdicts(made)}
    assert found["surrogate rival", ITERATIVE] is False
    assert ("surrogate rival", GROWS) not in found  # one size is not enough


def test_many_failures_are_cut_short() -> None:
    made = [outcome("fgsm", 0.01 * size, first(90), "white-box", without_gradient=1) for size in range(1, 6)]
    assert judged(made, GRADIENTS).detail.endswith("fgsm at 0.03 had no gradient for 1 of 100 samples; and 2 more")


def test_a_red_line_says_what_not_to_believe() -> None:
    verdict = {"model": "net", "rule": "rule", "detail": "detail"}
    assert red_line(verdict) == "this robustness is not to be believed: net: rule: detail"


def gradient_killer(weights: torch.Tensor) -> torch.nn.Module:
    """Linear, but so steep that the softmax saturates in float32: its input gradient vanishes where it is right."""
    net = torch.nn.Linear(*reversed(weights.shape), bias=False)
    net.weight.data = 1e4 * weights
    return net


def test_a_gradient_killing_network_is_flagged() -> None:
    """White-box FGSM finds no direction; the same samples made on the plain twin break it. Two checks say so."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(10, 64, generator=generator)
    x = torch.rand(200, 64, generator=generator)
    labels = (x @ weights.T).argmax(1)

    def fgsm(net: torch.nn.Module) -> tuple[AttackOutcome, torch.Tensor]:
        start = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net(start), labels, reduction="sum"), start)
        right = killer((x + 0.1 * slope.sign()).clamp(0, 1)).argmax(1) == labels
        gone = int((slope == 0).all(1).sum())
        own = net is killer
        made = outcome(
            "fgsm", 0.1, right.numpy(), "white-box" if own else "transfer",
            surrogate=None if own else 0, without_gradient=gone,
        )  # fmt: skip
        return made, slope

    killer, twin = gradient_killer(weights), gradient_killer(weights / 1e4)
    (own, gone), (transfer, _) = fgsm(killer), fgsm(twin)
    assert not gone.any()
    everything = np.ones(200, dtype=bool)
    made = findings([card("killer", everything)], [own, transfer], surrogates=[card("twin", everything)])
    found = {verdict.rule: verdict for verdict in verdicts(made)}
    assert found[GRADIENTS].holds is False
    assert found[GRADIENTS].detail == "fgsm at 0.1 had no gradient for 200 of 200 samples"
    assert found[ADAPTIVE].holds is False
