"""What an attack is, and all that there are: whatever is known of one stands in its own class.

An attack looks in an L-infinity ball around images for ones that a network takes for another class. A class is a frozen
dataclass whose fields are the attack's own settings, and it says besides what it knows of the network, whose work it is,
how it meets noise and how it is told of. Commands, evaluations and reports ask the classes, and have no list of their own:
an attack is added with one class under `register`.

Shapes: B samples, C classes.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from torch import Tensor

from glr_dist import __version__
from glr_dist.attacks.ball import Logits, check_attack, finite
from glr_dist.attacks.input_gradient import evaluating
from glr_dist.errors import UserError, nearest

Knowledge = Literal["none", "gradient", "white-box", "labels", "scores", "exact"]
Noise = Literal["votes", "single", "none"]
Kind = TypeVar("Kind", bound="type[Attack]")

ATTACKS: dict[str, type[Attack]] = {}  # by name, in the order of reports

# The seeds of an attack hang on a text that has held every setting of every attack since there was but one class for all.
_SEEDED = {
    "steps": 40,
    "step_size": 0.0,
    "restarts": 1,
    "slopes": (1.0, 2.0, 5.0, 10.0),
    "draws": 0,  # also where an attack makes as many as it does by default
    "queries": 5000,
    "seconds": 60.0,
}


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What an attack made.

    Attributes:
        x: [B, ...], in the ball and in [0, 1]; not all of them fool the network.
        without_gradient: samples whose input gradient, at the clean sample, was zero or not finite.
        queries: forward passes per sample, mean.
        safe: bool [B] proved: nothing in the ball is taken for another class; None from attacks that prove nothing.
        undecided: bool [B] neither proved nor broken; None as above.
        bounded: bool [B] proved by intervals alone; None as above.
    """

    x: Tensor
    without_gradient: int = 0
    queries: float = 0.0
    safe: Tensor | None = None
    undecided: Tensor | None = None
    bounded: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack of one size; each kind adds its own settings as fields.

    Attributes:
        name: what it is called.
        knowledge: what it uses of the network: nothing, its gradient (on a surrogate: transfer), all of it with a stand-in
            for the gradient, its classes, its logits, or all of it for a proof.
        makers: whose work it is: names of installed packages.
        gradient: whether it follows a gradient, the network's own or a stand-in.
        iterative: whether it takes many steps.
        noise: how it meets a network that votes: ``votes``, it asks for the vote; ``single``, for one noisy pass at a time,
            and it needs noise; ``none``, not at all.
        stored: whether it makes samples that are worth keeping for other networks.
        chunk: samples that are given to it at once.
        spares: whether networks that it can't attack are left out, as long as there is one that it can.
        epsilon: size of the ball, in input units (pixels are in [0, 1]).
        beside: what the same command set for other attacks: a part of the seeds, and of nothing else.
    """

    name: ClassVar[str]
    knowledge: ClassVar[Knowledge]
    makers: ClassVar[tuple[str, ...]] = ("glr_dist",)
    gradient: ClassVar[bool] = False
    iterative: ClassVar[bool] = False
    noise: ClassVar[Noise] = "votes"
    stored: ClassVar[bool] = True
    chunk: ClassVar[int] = 100
    spares: ClassVar[bool] = False

    epsilon: float
    beside: tuple[tuple[str, Any], ...] = ()

    @abstractmethod
    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Attack a network: a pure function of the arguments, if ``logits`` is one.

        Args:
            logits: the network, which may be asked for any number of rows.
            x: float32 [B, ...] in [0, 1].
            labels: int64 [B].
            seed: of everything random.

        Raises:
            UserError: for settings out of range, inputs that are no images, a network that it can't attack, or without a
                library that it needs.
        """

    def refuse(self, logits: Logits, x: Tensor, labels: Tensor) -> None:
        """Raise UserError, saying why and what to do, for a network that it can't attack, seen at some samples."""
        return  # most can attack any network

    def check(self) -> None:
        """Raise UserError for settings outside their range: counts are 1 or more, other numbers finite and 0 or more."""
        finite("epsilon", self.epsilon, " (pixels are in [0, 1])")
        for name, value in self.settings().items():
            flag = name.replace("_", "-")
            if isinstance(value, float) or isinstance(getattr(type(self), name, None), float):
                finite(flag, value)
            elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UserError(f"--{flag} {value}: must be at least 1")

    def settings(self) -> dict[str, Any]:
        """Its own settings, all but the size: what tells it from others of its kind."""
        return {name: getattr(self, name) for name in own_settings(type(self))}

    @property
    def words(self) -> str:
        """Its settings for people to read."""
        return ""

    @property
    def tries(self) -> int:
        """Random starts or draws of which the worst counts."""
        return 1

    @property
    def library(self) -> str:
        """Whose work it is, with the versions."""
        return ", ".join(f"{m} {__version__ if m == 'glr_dist' else metadata.version(m)}" for m in self.makers)

    def knows(self, *, of_another: bool) -> str:
        """What it uses of the network under test; ``of_another``: whether the samples were made on another network."""
        if of_another and self.knowledge != "none":
            return "transfer"
        return "white-box" if self.knowledge == "gradient" else self.knowledge

    def seen_by_another(self) -> Attack:
        """What it amounts to for a network that its samples were not made on."""
        return self

    def seed_text(self) -> str:
        """All that makes it another attack, for its seeds."""
        own = self.settings()
        if own.get("draws") == getattr(type(self), "draws", None):
            own.pop("draws", None)
        about = {"name": self.name, "epsilon": self.epsilon, **_SEEDED, **dict(self.beside), **own}
        return json.dumps(about, sort_keys=True)


def register(kind: Kind) -> Kind:
    """Add a class to ATTACKS."""
    ATTACKS[kind.name] = kind
    return kind


def own_settings(kind: type[Attack]) -> tuple[str, ...]:
    """The names of an attack's own settings."""
    return tuple(f.name for f in dataclasses.fields(kind) if f.name not in Attack.__dataclass_fields__)


def named_attack(name: str, epsilon: float, **settings: Any) -> Attack:
    """An attack by its name, with some settings of its own; those of other attacks change nothing but its seeds.

    Raises:
        UserError: for an unknown name or a value out of range.
    """
    if name not in ATTACKS:
        raise UserError(f"--attack {name!r}: unknown; {nearest(name, ATTACKS)}")
    for setting in settings.keys() - {own for kind in ATTACKS.values() for own in own_settings(kind)}:
        raise UserError(f"{setting}: no attack has such a setting")
    kind = ATTACKS[name]
    own = {key: value for key, value in settings.items() if key in own_settings(kind)}
    beside = tuple((key, value) for key, value in settings.items() if key not in own)
    found = kind(epsilon=epsilon, beside=beside, **own)
    found.check()
    return found


class Counted:
    """A network that counts the rows it is asked for."""

    def __init__(self, logits: Logits) -> None:
        self._logits, self.rows = logits, 0

    def __call__(self, x: Tensor) -> Tensor:
        """The network's answer, [B, ...] -> [B, C]."""
        self.rows += len(x)
        return self._logits(x)


@contextmanager
def attacking(attack: Attack, logits: Logits, x: Tensor, labels: Tensor) -> Iterator[Counted]:
    """Within: a network in evaluation mode that counts what it is asked; raises UserError for what can't be attacked."""
    attack.check()
    check_attack(x, labels, attack.epsilon)
    with evaluating(logits):
        yield Counted(logits)


def counted(count: int, thing: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{count} {thing}{'s' * (count != 1)}"
