"""Whether robustness that was measured can be believed: checks that a sound evaluation passes.

Accuracy under attack is an upper bound, and a weak attack makes it high. The checks are those of Athalye, Carlini and
Wagner (2018) and Carlini et al. (2019), and one that needs proofs: no attack breaks what is proved safe.

Two sets of adversaries are compared sample by sample. If b samples are right under the one that should be stronger
alone, and c under the other alone, it is found too weak where b - c > 1 + 2 * sqrt(b + c): a sample, and two standard
deviations of b - c if both were equally strong (McNemar, 1947).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glr_dist.robustness.findings import AttackOutcome, Findings, Mask, ModelCard
from glr_dist.robustness.report.tally import groups, label, of_networks, sorted_by_key, source, worst

ADAPTIVE = ("white-box", "labels", "scores")  # they query the network itself
UNBOUNDED = 0.5  # from here on every image can be turned into the same grey one
_SHOWN = 3  # failures told in a verdict's detail


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One check of one network (all seeds of a name)."""

    rule: str  # what should be so
    model: str
    holds: bool | None  # None: what it compares was not measured
    detail: str  # what failed, or how much was compared


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One network, and its outcomes in order."""

    findings: Findings
    card: ModelCard
    outcomes: Sequence[AttackOutcome]

    def attacks(self, *knowledge: str) -> list[AttackOutcome]:
        """The outcomes of such knowledge; all attacks (not the exact answer) if none is given."""
        return [o for o in self.outcomes if (o.knowledge in knowledge if knowledge else o.knowledge != "exact")]

    def tell(self, outcome: AttackOutcome) -> str:
        """An outcome in a few words."""
        words = outcome.attack.words
        name = f"{outcome.attack.name} ({words})" if words else outcome.attack.name
        if outcome.surrogate is not None:
            name += f" from {label(self.findings.surrogates, outcome.surrogate)}"
        return f"{name} at {outcome.attack.epsilon:g}"


# Yields, for each comparison that could be made, what failed or "".
_Rule = Callable[[_Case], Iterator[str]]


def verdicts(findings: Findings) -> list[Verdict]:
    """All checks of all networks, by RULES; of the surrogates, those of an attack's own quality that could be made."""
    found = []
    for name, members in groups(findings.models).items():
        cases = [_case(findings, findings.models, findings.attacks, index) for index in members]
        found += [_judge(rule, name, check, cases) for rule, check in RULES.items()]
    for index in range(len(findings.surrogates)):
        case = _case(findings, findings.surrogates, findings.surrogate_attacks, index)
        name = f"surrogate {label(findings.surrogates, index)}"
        judged = [_judge(rule, name, RULES[rule], [case]) for rule in SURROGATE_RULES]
        found += [verdict for verdict in judged if verdict.holds is not None]
    return found


def red_line(verdict: Mapping[str, Any]) -> str:
    """What to say of a check (as in report.json) that failed, in one line."""
    return f"this robustness is not to be believed: {verdict['model']}: {verdict['rule']}: {verdict['detail']}"


def too_weak(strong: Mask, weak: Mask) -> bool:
    """Whether adversaries that should be stronger leave more samples right [n] than chance explains, next to weaker ones."""
    alone, others = int((strong & ~weak).sum()), int((weak & ~strong).sum())
    return alone - others > 1 + 2 * math.sqrt(alone + others)


def _case(findings: Findings, cards: Sequence[ModelCard], outcomes: Iterable[AttackOutcome], index: int) -> _Case:
    return _Case(findings=findings, card=cards[index], outcomes=of_networks(outcomes, [index]))


def _judge(rule: str, name: str, check: _Rule, cases: Sequence[_Case]) -> Verdict:
    """One check over the seeds of a name."""
    compared, failures = 0, []
    for case in cases:
        seed = f"seed {case.card.seed}: " if len(cases) > 1 else ""
        results = list(check(case))
        compared += len(results)
        failures += [seed + failure for failure in results if failure]
    if failures:
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        return Verdict(rule=rule, model=name, holds=False, detail="; ".join(failures[:_SHOWN]) + more)
    if not compared:
        return Verdict(rule=rule, model=name, holds=None, detail="not measured")
    return Verdict(rule=rule, model=name, holds=True, detail=f"compared {compared} time{'s' * (compared != 1)}")


def _leaves(strong: str, right: Mask, weak: str, other: Mask) -> str:
    """The failure, if `strong` is too weak."""
    if not too_weak(right, other):
        return ""
    return f"{strong} leaves {int(right.sum())} of {right.size} right, {weak} leaves {int(other.sum())}"


def _iterative(case: _Case) -> Iterator[str]:
    """On the network whose gradient it follows, an attack of many steps is no weaker than one of a single step.

    Transferred, it may well be: the more steps, the better the samples fit their surrogate and it alone.
    """
    one_step = [o for o in case.attacks("white-box") if o.attack.gradient and not o.attack.iterative]
    for single in one_step:
        for many in case.outcomes:
            same = (many.attack.epsilon, many.knowledge) == (single.attack.epsilon, single.knowledge)
            if many.attack.iterative and same:
                yield _leaves(case.tell(many), many.right, case.tell(single), single.right)


def _adaptive(case: _Case) -> Iterator[str]:
    """The attacks on the network itself, together, are no weaker than any that was made on a surrogate."""
    for transfer in case.attacks("transfer"):
        epsilon = transfer.attack.epsilon
        own = [outcome for outcome in case.attacks(*ADAPTIVE) if outcome.attack.epsilon == epsilon]
        if own:
            (together,) = worst(own).values()
            names = " + ".join(dict.fromkeys(outcome.attack.name for outcome in own))
            yield _leaves(f"{names} on itself", together, case.tell(transfer), transfer.right)


def _grows(case: _Case) -> Iterator[str]:
    """A larger ball holds the smaller one. That clean samples are right more often is no comparison on its own."""
    for outcomes in sorted_by_key(case.attacks(), source).values():
        before, name = case.card.right, "no attack"
        for step, outcome in enumerate(outcomes):
            failure = _leaves(case.tell(outcome), outcome.right, name, before)
            if step or failure:
                yield failure
            before, name = outcome.right, case.tell(outcome)


def _reaches_chance(case: _Case) -> Iterator[str]:
    """Where every image may become any other half-way, nothing but chance is left."""
    large = [o for o in case.attacks() if o.knowledge != "none" and o.attack.epsilon >= UNBOUNDED]
    if not large:
        return
    epsilon = max(outcome.attack.epsilon for outcome in large)
    (left,) = worst(outcome for outcome in large if outcome.attack.epsilon == epsilon).values()
    chance, count = 1 / case.findings.data["classes"], left.size
    tolerance = 1 / count + 2 * math.sqrt(chance * (1 - chance) / count)
    accuracy = float((left & case.card.right).mean())
    told = f"{accuracy:.1%} are right at {epsilon:g} under all attacks; chance is {chance:.1%} +- {tolerance:.1%}"
    yield told if accuracy > chance + tolerance else ""


def _noise(case: _Case) -> Iterator[str]:
    """An attack that noise of the same size beats is none."""
    for control in case.attacks("none"):
        for outcome in case.attacks():
            if outcome.knowledge != "none" and outcome.attack.epsilon == control.attack.epsilon:
                yield _leaves(case.tell(outcome), outcome.right, case.tell(control), control.right)


def _exact(case: _Case) -> Iterator[str]:
    """Nothing breaks what is proved safe: no smaller or equal attack, nor the clean sample itself."""
    for proof in (outcome for outcome in case.outcomes if outcome.knowledge == "exact"):
        if failure := _contradiction(case, proof, "no attack", ~case.card.right):
            yield failure
        for outcome in case.outcomes:
            if outcome.attack.epsilon <= proof.attack.epsilon and outcome is not proof:
                broken = ~outcome.right & case.card.right
                broken &= True if outcome.undecided is None else ~outcome.undecided
                yield _contradiction(case, proof, case.tell(outcome), broken)


def _contradiction(case: _Case, proof: AttackOutcome, name: str, broken: Mask) -> str:
    which = case.findings.indices[proof.right & broken]
    if not which.size:
        return ""
    numbers = ", ".join(str(index) for index in which[:_SHOWN]) + (", ..." if len(which) > _SHOWN else "")
    return (
        f"CONTRADICTION: {len(which)} of {int(proof.right.sum())} proved safe at {proof.attack.epsilon:g}"
        f" are wrong under {name} (samples {numbers}): the proof or the attack is in error"
    )


def _ranked(case: _Case) -> Iterator[str]:
    """What is left under transfer alone is no smaller than it is for a rival only because that was attacked itself."""
    own = "bpda-pgd" if case.card.activation == "heaviside" else "pgd"
    for epsilon in dict.fromkeys(outcome.attack.epsilon for outcome in case.attacks("transfer")):
        rivals = dict.fromkeys(
            case.findings.models[outcome.model].name
            for outcome in case.findings.attacks
            if outcome.attack.epsilon == epsilon and outcome.knowledge in ADAPTIVE
        )
        rivals.pop(case.card.name, None)
        met = {outcome.knowledge for outcome in case.outcomes if outcome.attack.epsilon == epsilon}
        if rivals:
            yield (
                ""
                if met & {*ADAPTIVE, "exact"}
                else f"at {epsilon:g} by transfer alone, {', '.join(rivals)} by attacks on itself: the two figures can't be"
                f" ranked; add --attack {own}"
            )


def _gradients(case: _Case) -> Iterator[str]:
    """A sample without a gradient was not attacked."""
    for outcome in case.outcomes:
        if outcome.attack.gradient:
            count = outcome.without_gradient
            told = f"{case.tell(outcome)} had no gradient for {count} of {outcome.right.size} samples"
            yield told if count else ""


RULES: dict[str, _Rule] = {
    "iterative >= single-step": _iterative,
    "adaptive >= transfer": _adaptive,
    "success grows with eps": _grows,
    "success reaches 100%": _reaches_chance,
    "random noise weaker than any attack": _noise,
    "exact <= every attack": _exact,
    "attacked as hard as its rivals": _ranked,
    "every sample has a gradient": _gradients,
}
SURROGATE_RULES = ("iterative >= single-step", "success grows with eps", "every sample has a gradient")
