"""From the answers of many chunks, in whatever order they came, to what an evaluation found.

n: the selected samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.attacks.attack import Attack
from glr_dist.corruptions.corruption import SEVERITIES
from glr_dist.robustness.examination import Answer, Clean, Corrupted, Direct, Examiner, Job, Line, Stored
from glr_dist.robustness.findings import AttackOutcome, CorruptionOutcome, Findings, ModelCard, Specimens
from glr_dist.robustness.generation import Order
from glr_dist.robustness.selection import Indices, chunks, rows_at
from glr_dist.robustness.subjects import Subject
from glr_dist.seeds import Purpose, permutation

_SHOWN = 8  # samples to look at, of each attack


def shown_samples(count: int, seed: int) -> Indices:
    """Places in the selection of the samples for people to look at: chosen by the seed, not by success; sorted."""
    return np.sort(permutation(count, seed, Purpose.SHOWN)[:_SHOWN])


def gathered(
    examiner: Examiner,
    surrogates: Sequence[Subject],
    jobs: Sequence[Job],
    answers: Sequence[Answer | None],
    indices: Indices,
    about: dict[str, Any],
) -> Findings:
    """All answers in their places.

    Args:
        examiner: who gave them.
        surrogates: the networks of its generators.
        jobs: what was asked, line by line.
        answers: in the jobs' order.
        indices: [n] the selected samples.
        about: the data, for the report.
    """
    labels = np.concatenate([rows_at(examiner.data, examiner.split, c.indices)[1].numpy() for c in chunks(indices)])
    lines = [
        (line, _recalled(line, _joined([a for job in group if (a := answers[job.number]) is not None]), examiner))
        for line, group in groupby(jobs, key=lambda job: job.line)
    ]
    clean = lines[0][1]
    cards = _surrogate_cards(lines, labels, examiner, surrogates)
    number = {card.sha256: index for index, card in enumerate(cards)}
    attacks: list[AttackOutcome] = []
    specimens: list[Specimens] = []
    surrogate_attacks: list[AttackOutcome] = []
    corruptions: list[CorruptionOutcome] = []
    views = _Views(examiner, indices, labels, clean.classes)
    for line, answer in lines:
        if isinstance(line, Corrupted):
            corruptions += _corruption_outcomes(line, answer)
        elif not isinstance(line, Clean):
            for row, outcome in enumerate(_attack_outcomes(line, answer, examiner, surrogates, number)):
                specimens += views.of(outcome, len(attacks), answer.classes[row], answer)
                attacks.append(outcome)
            surrogate_attacks += _surrogate_outcomes(line, answer, labels, examiner, surrogates, number)
    return Findings(
        data=about,
        indices=indices,
        labels=labels,
        models=[
            subject.card(right, examiner.votes) for subject, right in zip(examiner.subjects, clean.right, strict=True)
        ],
        surrogates=cards,
        attacks=attacks,
        surrogate_attacks=surrogate_attacks,
        corruptions=corruptions,
        specimens=specimens,
        seed=examiner.seed,
    )


class _Views:
    """Picks the samples to look at: for each group of networks the first attack of its kind on the first of them."""

    def __init__(
        self, examiner: Examiner, indices: Indices, labels: NDArray[np.int64], clean: NDArray[np.int64]
    ) -> None:
        self._subjects = examiner.subjects
        self._places = np.flatnonzero(np.isin(indices, examiner.shown))
        self._x = rows_at(examiner.data, examiner.split, examiner.shown)[0].numpy()
        self._labels, self._clean = labels[self._places], clean[:, self._places]
        self._taken: set[tuple[str, str, str]] = set()

    def of(self, outcome: AttackOutcome, number: int, classes: NDArray[np.int64], answer: Answer) -> list[Specimens]:
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


def _origin(line: Line, examiner: Examiner, surrogates: Sequence[Subject]) -> tuple[Attack, dict[str, Any] | None]:
    """An attack, and who the surrogate was if there was one."""
    if isinstance(line, Order):
        return line.attack, surrogates[line.surrogate].about
    if isinstance(line, Stored):
        stored = examiner.sets[line.number]
        return stored.attack, stored.meta["surrogate"]
    assert isinstance(line, Direct), line
    return line.attack, None


def _surrogate_cards(
    lines: Sequence[tuple[Line, Answer]],
    labels: NDArray[np.int64],
    examiner: Examiner,
    surrogates: Sequence[Subject],
) -> list[ModelCard]:
    """Each network that samples were made on, once."""
    cards: dict[str, ModelCard] = {}
    for line, answer in lines:
        if answer.before is not None:
            _, about = _origin(line, examiner, surrogates)
            assert about is not None
            cards.setdefault(about["sha256"], ModelCard(**about, votes=0, right=answer.before == labels))
    return list(cards.values())


def _recalled(line: Line, answer: Answer, examiner: Examiner) -> Answer:
    """With what a stored set's maker counted; of a part of a set, no fewer samples without a gradient than there are."""
    if not isinstance(line, Stored):
        return answer
    meta = examiner.sets[line.number].meta
    dead = min(meta["without_gradient"], answer.right.shape[1])
    return replace(answer, without_gradient=dead, queries=meta["queries"])


def _attack_outcomes(
    line: Line, answer: Answer, examiner: Examiner, surrogates: Sequence[Subject], number: Mapping[str, int]
) -> Iterator[AttackOutcome]:
    """One line, network by network."""
    attack, about = _origin(line, examiner, surrogates)
    models = [line.subject] if isinstance(line, Direct) else range(len(examiner.subjects))
    for model, right in zip(models, answer.right, strict=True):
        subject = examiner.subjects[model]
        another = _of_another(about, subject)
        knowledge = attack.knows(of_another=another)
        yield AttackOutcome(
            model=model,
            attack=attack.seen_by_another() if another else attack,
            knowledge=knowledge,
            surrogate=number[about["sha256"]] if about is not None and knowledge == "transfer" else None,
            library=attack.library,
            right=right,
            undecided=answer.undecided,
            without_gradient=answer.without_gradient,
            queries=answer.queries,
            seconds=answer.generating + answer.examining / len(models),
        )


def _surrogate_outcomes(
    line: Line,
    answer: Answer,
    labels: NDArray[np.int64],
    examiner: Examiner,
    surrogates: Sequence[Subject],
    number: Mapping[str, int],
) -> Iterator[AttackOutcome]:
    """What the attack did to the network that it was made on."""
    attack, about = _origin(line, examiner, surrogates)
    if about is None or answer.after is None:
        return
    yield AttackOutcome(
        model=number[about["sha256"]],
        attack=attack,
        knowledge=attack.knows(of_another=False),
        library=attack.library,
        right=answer.after == labels,
        without_gradient=answer.without_gradient,
        queries=answer.queries,
        seconds=answer.generating,
    )


def _corruption_outcomes(line: Corrupted, answer: Answer) -> Iterator[CorruptionOutcome]:
    models = len(answer.right) // len(SEVERITIES)
    for row, right in enumerate(answer.right):
        severity, model = SEVERITIES[row // models], row % models
        yield CorruptionOutcome(model=model, corruption=line.name, severity=severity, right=right)


def _of_another(about: Mapping[str, Any] | None, subject: Subject) -> bool:
    """Whether samples were made on a surrogate that is not the network under test itself."""
    return about is not None and about["sha256"] != subject.sha256


def _joined(parts: Sequence[Answer]) -> Answer:
    """The answers to a line's chunks, in order, as one."""

    def along(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    sizes = [part.classes.shape[1] for part in parts]
    return Answer(
        classes=np.concatenate([part.classes for part in parts], axis=1),
        right=np.concatenate([part.right for part in parts], axis=1),
        **{name: along(name) for name in ("undecided", "before", "after", "seen")},
        without_gradient=sum(part.without_gradient for part in parts),
        queries=float(np.average([part.queries for part in parts], weights=sizes)),
        generating=sum(part.generating for part in parts),
        examining=sum(part.examining for part in parts),
    )
