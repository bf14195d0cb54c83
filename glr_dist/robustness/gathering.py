"""From the answers to many chunks, in whatever order they came, to what an evaluation found.

n: the selected samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glr_dist.robustness.bench import Answer, Bench, Classes, joined
from glr_dist.robustness.findings import AttackOutcome, Findings, ModelCard, Specimens
from glr_dist.robustness.probes import Probe
from glr_dist.robustness.selection import Indices, rows_at
from glr_dist.seeds import Purpose, permutation

_SHOWN = 8  # samples to look at, of each attack


def shown_samples(count: int, seed: int) -> Indices:
    """Places in the selection of the samples for people to look at: chosen by the seed, not by success; sorted."""
    return np.sort(permutation(count, seed, Purpose.SHOWN)[:_SHOWN])


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
    cards = _surrogate_cards(bench, whole)
    number = {card.sha256: index for index, card in enumerate(cards)}
    views = _Views(bench, indices, clean)
    attacks: list[AttackOutcome] = []
    specimens: list[Specimens] = []
    for probe, answer in whole.items():
        for row, outcome in enumerate(probe.outcomes(bench, answer, number)):
            specimens += views.of(outcome, len(attacks), answer.classes[row], answer)
            attacks.append(outcome)
    return Findings(
        data=about,
        indices=indices,
        labels=clean.labels,
        models=[subject.card(right, bench.votes) for subject, right in zip(bench.subjects, clean.right, strict=True)],
        surrogates=cards,
        attacks=attacks,
        surrogate_attacks=[own for probe, answer in whole.items() for own in probe.on_surrogate(bench, answer, number)],
        corruptions=[found for probe, answer in whole.items() for found in probe.corrupted(bench, answer)],
        specimens=specimens,
        seed=bench.seed,
    )


def _surrogate_cards(bench: Bench, answers: Mapping[Probe, Answer]) -> list[ModelCard]:
    """Each network that samples were made on, once."""
    cards: dict[str, ModelCard] = {}
    for probe, answer in answers.items():
        maker = probe.maker(bench)
        if maker is not None and answer.right_before is not None:
            cards.setdefault(maker["sha256"], ModelCard(**maker, votes=0, right=answer.right_before))
    return list(cards.values())


class _Views:
    """Picks the samples to look at: for each group of networks the first attack of its kind on the first of them."""

    def __init__(self, bench: Bench, indices: Indices, clean: Answer) -> None:
        self._subjects = bench.subjects
        self._places = np.flatnonzero(np.isin(indices, bench.shown))
        self._x = rows_at(bench.data, bench.split, bench.shown)[0].numpy()
        self._labels, self._clean = clean.labels[self._places], clean.classes[:, self._places]
        self._taken: set[tuple[str, str, str]] = set()

    def of(self, outcome: AttackOutcome, number: int, classes: Classes, answer: Answer) -> list[Specimens]:
        kind = (self._subjects[outcome.model].name, outcome.attack.name, outcome.knowledge)
        if kind in self._taken or answer.seen is None:
            return []
        self._taken.add(kind)
        return [
            Specimens(
                outcome=number,
                clean=self._x,
                adversarial=answer.seen,
                labels=self._labels,
                before=self._clean[outcome.model],
                after=classes[self._places],
            )
        ]
