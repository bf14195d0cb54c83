"""What is refused before any work is done, and which networks an attack can be tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glr_dist.attacks.attack import Attack
from glr_dist.corruptions.corruption import known_corruption
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.selection import Indices, rows_at
from glr_dist.robustness.subjects import Subject, refuse_votes

_PROBE = 10  # samples


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


def attackable(
    attack: Attack,
    networks: Sequence[Subject],
    data: DataSource,
    split: str,
    indices: Indices,
    say: Callable[[str], None],
) -> list[int]:
    """The networks that an attack can be tried on, as their numbers.

    Args:
        attack: what is tried; its size does not matter.
        networks: on which.
        data: what they see.
        split: and of which split.
        indices: the selected samples.
        say: told which are left out.

    Raises:
        UserError: naming the first that it can't be tried on, where it leaves none out or none would be left.
    """
    x, labels = rows_at(data, split, indices[:_PROBE])
    reasons = {}
    for number, network in enumerate(networks):
        try:
            attack.refuse(network.model, x, labels)
        except UserError as error:
            reasons[number] = f"{network.checkpoint}: {error}"
    if reasons and not (attack.spares and len(reasons) < len(networks)):
        raise UserError(next(iter(reasons.values())))
    for reason in reasons.values():
        say(f"note: left out of {attack.name}: {reason}")
    return [number for number in range(len(networks)) if number not in reasons]
