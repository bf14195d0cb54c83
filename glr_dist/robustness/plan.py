"""What an evaluation is made of: its lines, and what is refused before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from glr_dist.attacks.attack import Attack
from glr_dist.attacks.input_gradient import input_gradient
from glr_dist.corruptions.corruption import known_corruption
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.examination import Clean, Corrupted, Direct, Job, Line, Stored
from glr_dist.robustness.generation import Order
from glr_dist.robustness.sample_set import SampleSet
from glr_dist.robustness.selection import CHUNK, Indices, chunks, rows_at
from glr_dist.robustness.subjects import Subject, refuse_votes

_PROBE = 10  # samples


def plan_lines(
    subjects: Sequence[Subject],
    attacks: Sequence[Attack],
    surrogates: Sequence[Subject],
    sets: Sequence[SampleSet],
    corruptions: Sequence[str],
    say: Callable[[str], None],
) -> list[Line]:
    """Every line of work: clean samples, each attack (on each surrogate, or on each network itself), sets, corruptions.

    Args:
        subjects: the networks under test.
        attacks: what is tried on them.
        surrogates: for the attacks that follow a gradient; none: they follow that of the network under test.
        sets: stored samples.
        corruptions: by name.
        say: told which networks ``exact`` can't decide.

    Raises:
        UserError: when ``exact`` can decide none.
    """
    lines: list[Line] = [Clean()]
    decidable = _decidable(subjects, say) if any(attack.spares for attack in attacks) else []
    for attack in attacks:
        if attack.knowledge == "gradient" and surrogates:
            lines += [Order(number, attack) for number in range(len(surrogates))]
        else:
            able = decidable if attack.spares else range(len(subjects))
            lines += [Direct(number, attack) for number in able]
    lines += [Stored(number) for number in range(len(sets))]
    lines += [Corrupted(name) for name in corruptions]
    return list(dict.fromkeys(lines))


def jobs_of(lines: Sequence[Line], indices: Indices) -> Iterator[Job]:
    """All lines, chunk by chunk."""
    number = 0
    for line in lines:
        for chunk in chunks(indices, line.attack.chunk if isinstance(line, Direct) else CHUNK):
            yield Job(number, line, chunk)
            number += 1


def refuse_unfit(
    subjects: Sequence[Subject],
    attacks: Sequence[Attack],
    surrogates: Sequence[Subject],
    corruptions: Sequence[str],
    votes: int,
) -> None:
    """Refuse what can't be evaluated.

    Raises:
        UserError: naming the option.
    """
    if not subjects:
        raise UserError("CHECKPOINT: give at least one")
    for attack in attacks:
        attack.check()
        if attack.noise == "single" and not votes:
            raise UserError(f"--attack {attack.name}: is for predictions with noise; give --votes")
        if attack.noise == "none" and votes:
            raise UserError(f"--attack {attack.name}: is for predictions without noise; leave --votes out")
    if surrogates and not any(attack.knowledge == "gradient" for attack in attacks):
        raise UserError("--surrogate: is for attacks that follow its gradient; give --attack fgsm or --attack pgd")
    for name in corruptions:
        known_corruption(name)
    if votes < 0:
        raise UserError(f"--votes {votes}: must be 0 or more")
    for subject in subjects if votes else ():
        refuse_votes(subject.method, subject.checkpoint)


def refuse_without_gradient(networks: Sequence[Subject], data: DataSource, split: str, indices: Indices) -> None:
    """Refuse networks without a gradient for attacks that follow one, before anything is computed.

    Raises:
        UserError: naming the first, and what to do.
    """
    x, labels = rows_at(data, split, indices[:_PROBE])
    for network in networks:
        try:
            input_gradient(network.model, x, labels)
        except UserError as error:
            raise UserError(f"{network.checkpoint}: {error}") from error


def _decidable(subjects: Sequence[Subject], say: Callable[[str], None]) -> list[int]:
    """The networks that ``exact`` can decide."""
    able, reasons = [], []
    for number, subject in enumerate(subjects):
        try:
            from glr_dist.attacks.exact.network import threshold_network

            threshold_network(subject.model)
            able.append(number)
        except UserError as error:
            reasons.append(f"{subject.checkpoint}: {error}")
    if not able:
        raise UserError(reasons[0])
    for reason in reasons:
        say(f"note: left out of exact: {reason}")
    return able
