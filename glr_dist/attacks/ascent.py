"""Attacks that climb the loss: the one loop, and those that follow the network's own gradient.

    FGSM  x + epsilon * sign(g(x))                                    (Goodfellow et al., 2015)
    PGD   z <- project(z + step_size * sign(g(z))), so many steps     (Madry et al., 2018)

g is the gradient of the summed cross-entropy (`input_gradient`); sign(0) = 0; everything stays in the ball and in [0, 1]
(`ball`). The same loop along a derivative that the network doesn't have is in `stand_in`.

Shapes: B samples, A samples that are left to try, M of these that still move, C classes.
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
from glr_dist.attacks.ball import Logits, check_attack, first_that_fools, fooled, stepped, uniform_start
from glr_dist.attacks.input_gradient import gradient_and_logits, input_gradient, without_gradient

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
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.
        gradients: of one run each.
        judge: (candidates [A, ...], labels [A]) -> whether they fool, bool [A].
        steps: gradient steps of a run.
        step_size: of each, in input units.
        rng: of the starts, uniform in the ball, and of the choices; None: the runs start at ``x``.
        part: share of each sample's inputs that a step after the first may move, in (0, 1]; below 1 it needs ``rng``.
    """
    assert part == 1.0 or rng is not None

    def run(gradient: Gradient, rows: Tensor) -> Tensor:
        clean, truth = x[rows], labels[rows]
        z = clean.clone() if rng is None else uniform_start(x, epsilon, rng)[rows]
        moving = torch.arange(len(rows), device=x.device)
        for step in range(steps):
            along, still = gradient(z[moving], truth[moving])
            if part < 1.0 and step and rng is not None:
                along *= torch.from_numpy(rng.random(tuple(along.shape), dtype=np.float32) < part).to(z.device)
            moving = moving[still]
            if not len(moving):
                break
            z[moving] = stepped(z[moving], clean[moving], along[still], step_size, epsilon)
        return z

    return first_that_fools([partial(run, gradient) for gradient in gradients], x, labels, judge)


def fgsm(logits: Logits, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """One step of size epsilon along the gradient's sign: [B, ...], a fresh tensor.

    Args:
        logits: a network with a gradient.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.

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
    """Many small steps along the gradient's sign, all of them taken; the last point of each restart is its candidate.

    With ``part`` below 1 each step after the first moves a random choice of the inputs alone: behind thresholds, where a
    step turns bits or does nothing, moving all at once overshoots, and no step size mends it.

    Args:
        logits: a network with a gradient.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.
        steps: gradient steps.
        step_size: of each, in input units.
        restarts: random starts; the first candidate that fools is kept, else the last one.
        rng: of the starts and of the choices; None: one run that starts at ``x``.
        part: share of each sample's inputs that a step after the first may move, in (0, 1]; below 1 it needs ``rng``.

    Returns:
        [B, ...], a fresh tensor.

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
    knowledge = "gradient"
    gradient = True

    def refuse(self, logits: Logits, x: Tensor, labels: Tensor) -> None:
        """Refuse a network without a gradient."""
        input_gradient(logits, x, labels)

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Take the step; nothing is random."""
        with attacking(self, logits, x, labels) as asked:
            along = input_gradient(asked, x, labels)
        made = stepped(x, x, along, self.epsilon, self.epsilon)
        return Attacked(x=made, without_gradient=_dead(along), queries=asked.rows / len(x))


@register
@dataclass(frozen=True, kw_only=True)
class Pgd(Attack):
    """Many steps along the gradient's sign, from random starts, all of them taken.

    Attributes:
        steps: of a run.
        step_size: of each, in input units; 0: 2.5 * epsilon / steps (Madry et al., 2018).
        restarts: random starts.
    """

    name = "pgd"
    knowledge: ClassVar[Knowledge] = "gradient"
    gradient = True
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

    def refuse(self, logits: Logits, x: Tensor, labels: Tensor) -> None:
        """Refuse a network without a gradient."""
        self._at_clean(logits, x, labels)

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

    def _at_clean(self, logits: Logits, x: Tensor, labels: Tensor) -> Tensor:
        """The gradient at the clean samples: [B, ...]; refuses a network without one."""
        return input_gradient(logits, x, labels)

    def _gradients(self, asked: Counted) -> list[Gradient]:
        return [partial(_own_gradient, asked)] * self.restarts

    def _judge(self, asked: Counted) -> Callable[[Tensor, Tensor], Tensor]:
        return partial(fooled, asked)


def _own_gradient(logits: Logits, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The network's own; all samples move to the last step."""
    return gradient_and_logits(logits, z, labels)[0], torch.ones_like(labels, dtype=torch.bool)


def _dead(gradient: Tensor) -> int:
    return int(without_gradient(gradient).sum())
