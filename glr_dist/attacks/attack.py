"""Attacks: FGSM, PGD, their control with random signs, and the one door to all attacks by name.

    FGSM  x + epsilon * sign(g(x))                                    (Goodfellow et al., 2015)
    PGD   z <- project(z + step_size * sign(g(z))), so many steps     (Madry et al., 2018)

g is the gradient of the summed cross-entropy (`gradients`); sign(0) = 0; everything stays in the ball and in [0, 1]
(`ball`). PGD through a derivative that the network doesn't have is in `stand_in`, black boxes are in `blackbox`.

Shapes: B samples, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.ascent import bpda_pgd, eot_pgd, stand_in_gradient
from glr_dist.attacks.ball import (
    Logits,
    check_attack,
    check_images,
    first_that_fools,
    fooled,
    own_stream,
    project,
    stepped,
    uniform_start,
)
from glr_dist.attacks.config import AttackConfig
from glr_dist.attacks.input_gradient import evaluating, gradient_and_logits, input_gradient, without_gradient

__all__ = ["Attacked", "check_images", "fgsm", "fooled", "pgd", "random_signs", "run_attack"]

_ROUND = 50  # random signs: draws of a sample that are tried at once; part of what a seed means


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What an attack made.

    Attributes:
        x: [B, ...], in the ball and in [0, 1]; not all of them fool the network.
        without_gradient: samples whose input gradient, at the clean sample, was zero or not finite.
        queries: forward passes per sample, mean.
    """

    x: Tensor
    without_gradient: int
    queries: float


def fgsm(logits: Logits, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """One step of size epsilon along the gradient's sign.

    Args:
        logits: a network with a gradient.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.

    Returns:
        [B, ...], a fresh tensor.

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
        rng: of the starts, uniform in the ball, and of the choices; None: one run that starts at ``x``.
        part: share of each sample's inputs that a step after the first may move, in (0, 1]; below 1 it needs ``rng``.

    Returns:
        [B, ...], a fresh tensor.

    Raises:
        UserError: for a network without a gradient, or inputs that are no images.
    """
    check_attack(x, labels, epsilon)
    assert part == 1.0 or rng is not None
    input_gradient(logits, x, labels)  # refuses a network without one

    def attempt(rows: Tensor) -> Tensor:
        clean, truth = x[rows], labels[rows]
        z = clean if rng is None else uniform_start(x, epsilon, rng)[rows]
        for step in range(steps):
            gradient = gradient_and_logits(logits, z, truth)[0]
            if part < 1.0 and step and rng is not None:
                gradient *= torch.from_numpy(rng.random(tuple(z.shape), dtype=np.float32) < part).to(z.device)
            z = stepped(z, clean, gradient, step_size, epsilon)
        return z

    attempts = [attempt] * (1 if rng is None else restarts)
    return first_that_fools(attempts, x, labels, partial(fooled, logits))


def random_signs(
    logits: Logits, x: Tensor, labels: Tensor, epsilon: float, *, draws: int, seed: np.random.SeedSequence
) -> Tensor:
    """The control: ``x +- epsilon`` with random signs, for each sample the first of so many draws that fools.

    A sample's draws depend on the seed and on the sample alone, wherever it stands and whatever stands beside it.

    Args:
        logits: any network.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: the ball's size, in input units.
        draws: most draws per sample.
        seed: of the signs.

    Returns:
        [B, ...], a fresh tensor; the last draw where none fools.

    Raises:
        UserError: for inputs that are no images.
    """
    check_attack(x, labels, epsilon)
    streams = [own_stream(seed, sample) for sample in x]
    best, left = x.clone(), torch.arange(len(x), device=x.device)
    for first in range(0, draws, _ROUND):
        count = min(_ROUND, draws - first)
        signs = torch.stack([_signs(streams[row], count, x[0]) for row in left])
        clean = x[left].unsqueeze(1)
        tried = project(clean + epsilon * signs, clean, epsilon)  # [A, count, ...]
        hits = fooled(logits, tried.flatten(0, 1), labels[left].repeat_interleave(count)).view(-1, count)
        chosen = torch.where(hits.any(1), hits.int().argmax(1), count - 1)
        best[left] = tried[torch.arange(len(left)), chosen]
        left = left[~hits.any(1)]
        if not len(left):
            break
    return best


def run_attack(
    config: AttackConfig, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence
) -> Attacked:
    """Any attack but ``exact``, by its name: a pure function of its arguments, if ``logits`` is one.

    Args:
        config: which attack, of which size.
        logits: the network that the attack may ask, called row by row for any number of rows.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        seed: of everything random.

    Returns:
        The samples, and what they cost.

    Raises:
        UserError: for settings out of range, inputs that are no images, a gradient attack on a network without a gradient,
            or a black-box attack without its library.
    """
    config.check()
    check_attack(x, labels, config.epsilon)
    counted = _Counted(logits)
    with evaluating(logits):
        made, dead = _made(config, counted, x, labels, seed)
    return Attacked(x=made, without_gradient=dead, queries=counted.rows / len(x))


class _Counted:
    """A network that counts the rows it is asked for."""

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self.rows = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self._logits(x)


def _made(
    config: AttackConfig, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence
) -> tuple[Tensor, int]:
    """The samples, and how many had no gradient."""
    epsilon, draws = config.epsilon, config.draws_made
    rng = np.random.Generator(np.random.PCG64(seed))
    iterative: dict[str, Any] = {
        "steps": config.steps,
        "step_size": config.step_size or 2.5 * epsilon / config.steps,
        "restarts": config.restarts,
        "rng": rng,
    }
    match config.name:
        case "random-signs":
            return random_signs(logits, x, labels, epsilon, draws=draws, seed=seed), 0
        case "fgsm":
            gradient = input_gradient(logits, x, labels)
            return stepped(x, x, gradient, epsilon, epsilon), _dead(gradient)
        case "pgd":
            gradient = input_gradient(logits, x, labels)
            return pgd(logits, x, labels, epsilon, **iterative), _dead(gradient)
        case "bpda-pgd":
            gradient = stand_in_gradient(logits, x, labels, config.slopes)
            return bpda_pgd(logits, x, labels, epsilon, slopes=config.slopes, **iterative), _dead(gradient)
        case "eot-pgd":
            gradient = stand_in_gradient(logits, x, labels, config.slopes)
            made = eot_pgd(logits, x, labels, epsilon, draws=draws, slopes=config.slopes, **iterative)
            return made, _dead(gradient)
    from glr_dist.attacks.blackbox import hopskipjump, square

    black_box = {"hopskipjump": hopskipjump, "square": square}
    assert config.name in black_box, f"{config.name} makes no samples"
    return black_box[config.name](logits, x, labels, epsilon, queries=config.queries, seed=seed), 0


def _dead(gradient: Tensor) -> int:
    return int(without_gradient(gradient).sum())


def _signs(stream: np.random.Generator, count: int, like: Tensor) -> Tensor:
    """``count`` times -1 or 1 for each pixel: [count, *pixels]."""
    bits = np.unpackbits(np.frombuffer(stream.bytes((count * like.numel() + 7) // 8), np.uint8))
    return torch.from_numpy(bits[: count * like.numel()]).to(like).mul_(2.0).sub_(1.0).view(count, *like.shape)
