"""Attacks that climb the loss: one loop, along the network's own gradient or one that stands in for it.

    FGSM  x + epsilon * sign(g(x))                                    (Goodfellow et al., 2015)
    PGD   z <- project(z + step_size * sign(g(z))), so many steps     (Madry et al., 2018)
    BPDA  PGD; Heaviside units have the derivative slope * s * (1 - s), s = sigmoid(slope * z), backwards alone
    EOT   the same, and g is the mean over draws of the noise that stays on at prediction

g is the gradient of the summed cross-entropy (`input_gradient`); sign(0) = 0; everything stays in the ball and in [0, 1]
(`ball`). The last two, white-box attacks on networks without a gradient, are from Athalye, Carlini and Wagner, 2018. No
slope is best for all networks, so each is tried; scaling a threshold network's weights changes nothing but which slope
that is.

Shapes: B samples, A samples that are left to try, M of these that still move, C classes. Everywhere ``x`` are float32
images [B, ...] in [0, 1], ``labels`` int64 [B], ``epsilon`` (the ball's size) and ``step_size`` in input units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.attack import Attack, Attacked, Counted, Knowledge, attacking, counted, register
from glr_dist.attacks.ball import Logits, check_attack, fooled, stepped, uniform_start
from glr_dist.attacks.input_gradient import gradient_and_logits, input_gradient, without_gradient
from glr_dist.core.activations import sigmoid_derivative
from glr_dist.errors import UserError

# (z [M, ...], labels [M]) -> the gradient [M, ...] and who still moves, bool [M]
Gradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def ascend(
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    gradients: Sequence[Gradient],
    judge: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    rng: np.random.Generator | None,
    part: float = 1.0,
) -> Tensor:
    """Climb once along each gradient; for each sample the first candidate that fools, else the last one: [B, ...].

    Args:
        x: images.
        labels: of theirs.
        epsilon: the ball's size.
        gradients: of one run each, on the samples that none before it has fooled.
        judge: (candidates [A, ...], labels [A]) -> whether they fool, bool [A].
        steps: gradient steps of a run.
        step_size: of each.
        rng: of the starts, uniform in the ball, and of the choices; None: the runs start at ``x``.
        part: share of each sample's inputs that a step after the first may move, in (0, 1]; below 1 it needs ``rng``.
    """
    assert part == 1.0 or rng is not None
    best, left = x.clone(), torch.arange(len(x), device=x.device)
    for number, gradient in enumerate(gradients, start=1):
        clean, truth = x[left], labels[left]
        z = clean.clone() if rng is None else uniform_start(x, epsilon, rng)[left]
        moving = torch.arange(len(left), device=x.device)
        for step in range(steps):
            along, still = gradient(z[moving], truth[moving])
            if part < 1.0 and step and rng is not None:
                along *= torch.from_numpy(rng.random(tuple(along.shape), dtype=np.float32) < part).to(z.device)
            moving = moving[still]
            if not len(moving):
                break
            z[moving] = stepped(z[moving], clean[moving], along[still], step_size, epsilon)
        best[left] = z
        if number < len(gradients):
            left = left[~judge(z, truth)]
        if not len(left):
            break
    return best


def fgsm(logits: Logits, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """One step of size epsilon along the gradient's sign: [B, ...], a fresh tensor.

    Raises:
        UserError: for a network without a gradient, or inputs that are no images.
    """
    check_attack(x, labels, epsilon)
    return stepped(x, x, input_gradient(logits, x, labels), epsilon, epsilon)


def pgd(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    steps: int,
    step_size: float,
    restarts: int,
    rng: np.random.Generator | None,
    part: float = 1.0,
) -> Tensor:
    """Many small steps along the gradient's sign, all of them taken: [B, ...], a fresh tensor.

    The last point of each restart is its candidate; ``rng`` None means one run that starts at ``x``. With ``part`` below 1
    each step after the first moves a random choice of the inputs alone: behind thresholds, where a step turns bits or does
    nothing, moving all at once overshoots, and no step size mends it. For the rest see `ascend`.

    Raises:
        UserError: for a network without a gradient, or inputs that are no images.
    """
    check_attack(x, labels, epsilon)
    input_gradient(logits, x, labels)  # refuses a network without one
    runs = [partial(_own_gradient, logits)] * (1 if rng is None else restarts)
    judge = partial(fooled, logits)
    return ascend(x, labels, epsilon, runs, judge, steps=steps, step_size=step_size, rng=rng, part=part)


@register
@dataclass(frozen=True, kw_only=True)
class Fgsm(Attack):
    """One step along the gradient's sign: on a surrogate (transfer) or on the network itself, if it has a gradient."""

    name = "fgsm"
    knowledge: ClassVar[Knowledge] = "gradient"
    gradient = True

    def refuse(self, logits: Logits, x: Tensor, labels: Tensor) -> None:
        """Refuse a network without a gradient."""
        self._at_clean(logits, x, labels)

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Take the step; nothing is random."""
        with attacking(self, logits, x, labels) as asked:
            along = self._at_clean(asked, x, labels)
        made = stepped(x, x, along, self.epsilon, self.epsilon)
        return Attacked(x=made, without_gradient=_dead(along), queries=asked.rows / len(x))

    def _at_clean(self, logits: Logits, x: Tensor, labels: Tensor) -> Tensor:
        """The gradient at the clean samples: [B, ...]; refuses a network without one."""
        return input_gradient(logits, x, labels)


@register
@dataclass(frozen=True, kw_only=True)
class Pgd(Fgsm):
    """Many steps along the gradient's sign, from random starts, all of them taken.

    Attributes:
        steps: of a run.
        step_size: of each, in input units; 0: 2.5 * epsilon / steps (Madry et al., 2018).
        restarts: random starts.
    """

    name = "pgd"
    iterative = True

    steps: int = 40
    step_size: float = 0.0
    restarts: int = 1

    @property
    def words(self) -> str:
        """Its settings for people to read; a step without a size is 2.5 * epsilon / steps."""
        size = f" of {self.step_size:g}" if self.step_size else ""
        return f"{counted(self.steps, 'step')}{size}, {counted(self.restarts, 'restart')}"

    @property
    def tries(self) -> int:
        """The random starts."""
        return self.restarts

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Climb from each start; the gradient at the clean samples is looked at, and is no query of the attack."""
        with attacking(self, logits, x, labels) as asked:
            dead = _dead(self._at_clean(logits, x, labels))
            made = ascend(
                *(x, labels, self.epsilon, self._gradients(asked), self._judge(asked)),
                steps=self.steps,
                step_size=self.step_size or 2.5 * self.epsilon / self.steps,
                rng=np.random.Generator(np.random.PCG64(seed)),
            )
        return Attacked(x=made, without_gradient=dead, queries=asked.rows / len(x))

    def _gradients(self, asked: Counted) -> list[Gradient]:
        return [partial(_own_gradient, asked)] * self.restarts

    def _judge(self, asked: Counted) -> Callable[[Tensor, Tensor], Tensor]:
        return partial(fooled, asked)


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
        """Each sample's gradient with the first slope that gives it one."""
        found: Tensor | None = None
        for slope in self.slopes:
            try:
                with sigmoid_derivative(slope):
                    gradient = input_gradient(logits, x, labels)
            except UserError:
                continue
            found = gradient if found is None else found
            dead = without_gradient(found)
            found[dead] = gradient[dead]
        if found is None:
            raise UserError(
                f"no gradient reaches the input even with slopes {list(self.slopes)}: only glr_dist's Heaviside units get"
                " a stand-in derivative, and steep ones vanish far from the threshold; try a surrogate (--surrogate"
                " CHECKPOINT) or a black-box attack (--attack square, hopskipjump)"
            )
        return found

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


def _own_gradient(logits: Logits, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The network's own; all samples move to the last step."""
    return gradient_and_logits(logits, z, labels)[0], torch.ones_like(labels, dtype=torch.bool)


def _dead(gradient: Tensor) -> int:
    return int(without_gradient(gradient).sum())
