"""From the answers to many chunks, in whatever order they came, to what an evaluation found.

n: the selected samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from glr_dist.corruptions.corruption import SEVERITIES
from glr_dist.robustness.bench import Answer, Bench, joined
from glr_dist.robustness.findings import AttackOutcome, CorruptionOutcome, Findings, ModelCard, Specimens
from glr_dist.robustness.probes import Corrupted, Probe
from glr_dist.robustness.selection import Indices, rows_at


def gathered(
    bench: Bench, answers: Mapping[Probe, Sequence[Answer]], indices: Indices, about: dict[str, Any]
) -> Findings:
    """All answers in their places.

    Args:
        bench: what was looked at.
        answers: to each probe, chunk by chunk; the first probe is of clean samples.
        indices: [n] the selected samples.
        about: the data, for the report.
    """
    whole = {probe: probe.recalled(bench, joined(parts)) for probe, parts in answers.items()}
    clean = next(iter(whole.values()))
    makers: dict[str, ModelCard] = {}  # each network that samples were made on, once
    for probe, answer in whole.items():
        maker = probe.maker(bench)
        if maker is not None and answer.right_before is not None:
            makers.setdefault(maker["sha256"], ModelCard(**maker, votes=0, right=answer.right_before))
    number = {sha256: index for index, sha256 in enumerate(makers)}
    attacks = [found for probe, answer in whole.items() for found in _outcomes(bench, probe, answer, number)]
    return Findings(
        data=about,
        indices=indices,
        labels=clean.labels,
        models=[
            ModelCard(**subject.about, votes=bench.votes, right=right)
            for subject, right in zip(bench.subjects, clean.right, strict=True)
        ],
        surrogates=list(makers.values()),
        attacks=attacks,
        surrogate_attacks=[own for probe, answer in whole.items() for own in _own(bench, probe, answer, number)],
        corruptions=[found for probe, answer in whole.items() for found in _corrupted(bench, probe, answer)],
        specimens=list(_specimens(bench, whole, indices, attacks)),
        seed=bench.seed,
    )


def _outcomes(bench: Bench, probe: Probe, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
    """What an attack did, network by network; ``number`` of each surrogate, by the SHA-256 of its parameters."""
    attack, maker, models = probe.attack_of(bench), probe.maker(bench), probe.models(bench)
    if attack is None:
        return
    for model, right in zip(models, answer.right, strict=True):
        another = maker is not None and maker["sha256"] != bench.subjects[model].sha256
        knowledge = attack.knows(of_another=another)
        yield AttackOutcome(
            model=model,
            attack=attack.seen_by_another() if another else attack,
            knowledge=knowledge,
            surrogate=number[maker["sha256"]] if maker is not None and knowledge == "transfer" else None,
            library=attack.library,
            right=right,
            undecided=answer.undecided,
            bounded=answer.bounded,
            without_gradient=answer.without_gradient,
            queries=answer.queries,
            seconds=answer.generating + answer.examining / len(models),
        )


def _own(bench: Bench, probe: Probe, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
    """And what to the surrogate that it was made on, where it is white-box."""
    attack, maker = probe.attack_of(bench), probe.maker(bench)
    if attack is not None and maker is not None and answer.right_after is not None:
        yield AttackOutcome(
            model=number[maker["sha256"]],
            attack=attack,
            knowledge=attack.knows(of_another=False),
            library=attack.library,
            right=answer.right_after,
            without_gradient=answer.without_gradient,
            queries=answer.queries,
            seconds=answer.generating,
        )


def _corrupted(bench: Bench, probe: Probe, answer: Answer) -> Iterator[CorruptionOutcome]:
    """What a corruption did, to all networks in all severities."""
    if isinstance(probe, Corrupted):
        for row, right in enumerate(answer.right):
            severity, model = divmod(row, len(bench.subjects))
            yield CorruptionOutcome(model=model, corruption=probe.name, severity=SEVERITIES[severity], right=right)


def _specimens(
    bench: Bench, answers: Mapping[Probe, Answer], indices: Indices, attacks: Sequence[AttackOutcome]
) -> Iterator[Specimens]:
    """Samples to look at: for each group of networks the first attack of its kind on the first of them."""
    clean = next(iter(answers.values()))
    places = np.flatnonzero(np.isin(indices, bench.shown))
    x = rows_at(bench.data, bench.split, bench.shown)[0].numpy()
    attacked = [answer for probe, answer in answers.items() if probe.attack_of(bench) is not None]
    rows = [(answer, classes) for answer in attacked for classes in answer.classes]
    taken = set()
    for number, (outcome, (answer, classes)) in enumerate(zip(attacks, rows, strict=True)):
        kind = (bench.subjects[outcome.model].name, outcome.attack.name, outcome.knowledge)
        if kind in taken or answer.seen is None:
            continue
        taken.add(kind)
        yield Specimens(
            outcome=number,
            clean=x,
            adversarial=answer.seen,
            labels=clean.labels[places],
            before=clean.classes[outcome.model, places],
            after=classes[places],
        )
