"""White-box attacks on networks without a gradient: PGD with a derivative that stands in for the step's.

    BPDA  Heaviside units have the derivative slope * s * (1 - s), s = sigmoid(slope * z), backwards alone
    EOT   the same, and the gradient is the mean over draws of the noise that stays on at prediction

Both from Athalye, Carlini and Wagner, 2018. No slope is best for all networks, so each is tried; scaling a threshold
network's weights changes nothing but which slope that is.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.ascent import Gradient, Pgd
from glr_dist.attacks.attack import Counted, counted, register
from glr_dist.attacks.ball import Logits
from glr_dist.attacks.input_gradient import gradient_and_logits, input_gradient, without_gradient
from glr_dist.core.activations import sigmoid_derivative
from glr_dist.errors import UserError


def stand_in_gradient(logits: Logits, x: Tensor, labels: Tensor, slopes: Sequence[float]) -> Tensor:
    """Each sample's input gradient with the first slope that gives it one: [B, ...].

    Args:
        logits: the network.
        x: float32 [B, ...].
        labels: int64 [B].
        slopes: of the sigmoids.

    Raises:
        UserError: when no slope gives any sample a gradient.
    """
    found: Tensor | None = None
    for slope in slopes:
        try:
            with sigmoid_derivative(slope):
                gradient = input_gradient(logits, x, labels)
        except UserError:
            continue
        if found is None:
            found = gradient
        else:
            dead = without_gradient(found)
            found[dead] = gradient[dead]
    if found is None:
        raise UserError(
            f"no gradient reaches the input even with slopes {list(slopes)}: only glr_dist's Heaviside units get a"
            " stand-in derivative, and steep ones vanish far from the threshold; try a surrogate (--surrogate CHECKPOINT)"
            " or a black-box attack (--attack square, hopskipjump)"
        )
    return found


@register
@dataclass(frozen=True, kw_only=True)
class BpdaPgd(Pgd):
    """PGD on the exact network whose Heaviside units have a sigmoid's derivative; a sample rests once it fools.

    Attributes:
        restarts: random starts, for each slope.
        slopes: of the sigmoids, one after the other.
    """

    name = "bpda-pgd"
    knowledge = "white-box"

    restarts: int = 3
    slopes: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)

    def check(self) -> None:
        """Raise UserError for settings outside their range."""
        super().check()
        if not self.slopes or any(not np.isfinite(slope) or slope <= 0 for slope in self.slopes):
            raise UserError(f"slopes {list(self.slopes)}: give one or more numbers above 0")

    @property
    def words(self) -> str:
        """Its settings for people to read."""
        return f"{super().words}, slopes {', '.join(f'{slope:g}' for slope in self.slopes)}"

    def _at_clean(self, logits: Logits, x: Tensor, labels: Tensor) -> Tensor:
        return stand_in_gradient(logits, x, labels, self.slopes)

    def _gradients(self, asked: Counted) -> list[Gradient]:
        return [partial(self._along, asked, slope) for slope in self.slopes for _ in range(self.restarts)]

    def _along(self, asked: Counted, slope: float, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient with one slope; who fools already rests."""
        with sigmoid_derivative(slope):
            gradient, outputs = gradient_and_logits(asked, z, labels)
        return gradient, outputs.argmax(-1) == labels


@register
@dataclass(frozen=True, kw_only=True)
class EotPgd(BpdaPgd):
    """PGD along the mean gradient over the noise; the class is that of the mean probability over as many draws.

    All steps are taken: one lucky draw is no success.

    Attributes:
        draws: of the noise, per gradient and per decision.
    """

    name = "eot-pgd"
    noise = "single"
    stored = False

    draws: int = 16

    @property
    def words(self) -> str:
        """Its settings for people to read."""
        return f"{super().words}, {counted(self.draws, 'draw')}"

    def _along(self, asked: Counted, slope: float, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with sigmoid_derivative(slope):
            drawn = [gradient_and_logits(asked, z, labels)[0] for _ in range(self.draws)]
        return torch.stack(drawn).mean(0), torch.ones_like(labels, dtype=torch.bool)

    def _judge(self, asked: Counted) -> Callable[[Tensor, Tensor], Tensor]:
        def fools(z: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.stack([asked(z).softmax(-1) for _ in range(self.draws)]).mean(0).argmax(-1) != labels

        return fools
