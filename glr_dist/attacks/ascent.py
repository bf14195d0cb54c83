"""White-box attacks on networks without a gradient: PGD on the exact network with a derivative that stands in.

    BPDA  Heaviside units have the derivative slope * s * (1 - s), s = sigmoid(slope * z), backwards alone
    EOT   the same, and the gradient is the mean over draws of the noise that stays on at prediction

Both from Athalye, Carlini and Wagner, 2018. No slope is best for all networks, so each is tried; scaling a threshold
network's weights changes nothing but which slope that is.

Shapes: B samples, A samples that are left to try, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.ball import Logits, check_attack, first_that_fools, fooled, stepped, uniform_start
from glr_dist.attacks.input_gradient import evaluating, gradient_and_logits, input_gradient, without_gradient
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


def bpda_pgd(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    slopes: Sequence[float],
    steps: int,
    step_size: float,
    restarts: int,
    rng: np.random.Generator,
) -> Tensor:
    """PGD on the exact network whose Heaviside units have a sigmoid's derivative; a sample rests once it fools.

    Args:
        logits: the network; its Heaviside units are glr_dist's.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.
        slopes: of the sigmoids, one after the other.
        steps: gradient steps of a run.
        step_size: of each, in input units.
        restarts: random starts for each slope.
        rng: of the starts.

    Returns:
        [B, ...], a fresh tensor: for each sample the first candidate that fools, else the last one.

    Raises:
        UserError: when no gradient reaches the input even so, or for inputs that are no images.
    """
    check_attack(x, labels, epsilon)
    stand_in_gradient(logits, x, labels, slopes)  # refuses a network without one

    def attempt(slope: float, rows: Tensor) -> Tensor:
        clean, truth = x[rows], labels[rows]
        z = uniform_start(x, epsilon, rng)[rows]
        moving = torch.arange(len(rows), device=x.device)
        for _ in range(steps):
            with sigmoid_derivative(slope):
                gradient, outputs = gradient_and_logits(logits, z[moving], truth[moving])
            right = outputs.argmax(-1) == truth[moving]
            moving = moving[right]
            if not len(moving):
                break
            z[moving] = stepped(z[moving], clean[moving], gradient[right], step_size, epsilon)
        return z

    attempts = [partial(attempt, slope) for slope in slopes for _ in range(restarts)]
    return first_that_fools(attempts, x, labels, partial(fooled, logits))


def eot_pgd(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    draws: int,
    slopes: Sequence[float],
    steps: int,
    step_size: float,
    restarts: int,
    rng: np.random.Generator,
) -> Tensor:
    """PGD along the mean gradient over the noise; the class is that of the mean probability over as many draws.

    Args:
        logits: a network that draws fresh noise at each call.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.
        draws: calls per gradient and per decision.
        slopes: of the sigmoids that stand in for Heaviside units, as for `bpda_pgd`.
        steps: gradient steps of a run, all of them taken: one lucky draw is no success.
        step_size: of each, in input units.
        restarts: random starts for each slope.
        rng: of the starts.

    Returns:
        [B, ...], a fresh tensor: for each sample the first candidate that fools, else the last one.

    Raises:
        UserError: when no gradient reaches the input, or for inputs that are no images.
    """
    check_attack(x, labels, epsilon)
    stand_in_gradient(logits, x, labels, slopes)  # refuses a network without one

    def attempt(slope: float, rows: Tensor) -> Tensor:
        clean, truth = x[rows], labels[rows]
        z = uniform_start(x, epsilon, rng)[rows]
        for _ in range(steps):
            with sigmoid_derivative(slope):
                gradients = [gradient_and_logits(logits, z, truth)[0] for _ in range(draws)]
            z = stepped(z, clean, torch.stack(gradients).mean(0), step_size, epsilon)
        return z

    def judge(z: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(logits):
            return torch.stack([logits(z).softmax(-1) for _ in range(draws)]).mean(0).argmax(-1) != truth

    attempts = [partial(attempt, slope) for slope in slopes for _ in range(restarts)]
    return first_that_fools(attempts, x, labels, judge)
