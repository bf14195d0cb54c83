"""The L-infinity ball around images in [0, 1]: what may be attacked, how far an attack may go, and what is a success.

    ball(x) = {x' : |x' - x| <= epsilon in every pixel, 0 <= x' <= 1}

Shapes: B samples, C classes, A samples that are left to try.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.input_gradient import evaluating
from glr_dist.errors import UserError

Logits = Callable[[Tensor], Tensor]  # [B, ...] -> [B, C], row by row, for any B
Attempt = Callable[[Tensor], Tensor]  # positions of the samples left [A] -> their candidates [A, ...]


def check_images(x: Tensor) -> None:
    """Raise UserError unless ``x`` is float32 [B, ...], finite and in [0, 1]."""
    if x.dtype != torch.float32:
        raise UserError(
            f"images: {str(x.dtype).removeprefix('torch.')}; must be float32 in [0, 1] (uint8: divide by 255)"
        )
    if x.dim() < 2:
        raise UserError(
            f"images: shape {list(x.shape)}; must have the samples on the first axis and pixels on the others"
        )
    if not x.numel():
        raise UserError(f"images: shape {list(x.shape)} holds none; select at least one sample")
    low, high = (float(value) for value in torch.aminmax(x))  # one pass; NaN if any pixel is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("images: NaN or infinite pixels; they must be in [0, 1]")
    if low < 0.0 or high > 1.0:
        raise UserError(f"images: pixels from {low:g} to {high:g}; they must be in [0, 1] (scale them)")


def check_labels(labels: Tensor, count: int) -> None:
    """Raise UserError unless ``labels`` is int64 [count]."""
    if labels.dtype != torch.int64 or labels.shape != (count,):
        found = f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
        raise UserError(f"labels: {found} for {count} images; must be int64 [{count}]")


def check_attack(x: Tensor, labels: Tensor, epsilon: float) -> None:
    """Raise UserError unless ``x`` are images with labels and the ball has a size."""
    check_images(x)
    check_labels(labels, len(x))
    if not math.isfinite(epsilon) or epsilon < 0:
        raise UserError(f"--epsilon {epsilon}: must be a finite number, 0 or more (pixels are in [0, 1])")


def project(candidate: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """The point of ball(x) nearest to the candidate, to float32's precision; for epsilon 0 it is x bit for bit.

    Args:
        candidate: [..., *pixels].
        x: of the same shape, or one that broadcasts to it.
        epsilon: in input units.

    Returns:
        A fresh tensor of the candidate's shape.
    """
    if epsilon == 0:
        return x.expand_as(candidate).clone()  # -0.0 + 0.0 is another bit pattern
    return (x + (candidate - x).clamp_(-epsilon, epsilon)).clamp_(0.0, 1.0)


def stepped(z: Tensor, x: Tensor, gradient: Tensor, step_size: float, epsilon: float) -> Tensor:
    """``z`` after one step along the gradient's sign, back in ball(x); where the gradient is 0 or NaN, z stays."""
    return project(torch.add(z, gradient.nan_to_num(0.0).sign_(), alpha=step_size), x, epsilon)


def uniform_start(x: Tensor, epsilon: float, rng: np.random.Generator) -> Tensor:
    """A point drawn uniformly from the cube of side 2 * epsilon around each sample, clamped to [0, 1]: [B, ...]."""
    uniform = torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32))
    return project(x + (2.0 * uniform.to(x.device) - 1.0) * epsilon, x, epsilon)


def own_stream(seed: np.random.SeedSequence, sample: Tensor) -> np.random.Generator:
    """Random numbers that depend on the seed and the sample alone, wherever it stands and whatever stands beside it."""
    return np.random.Generator(np.random.PCG64(own_seed(seed, sample)))


def own_seed(seed: np.random.SeedSequence, sample: Tensor) -> np.random.SeedSequence:
    """The seed's child for a sample, found by the sample's bytes."""
    digest = hashlib.sha256(sample.detach().cpu().contiguous().numpy().tobytes()).digest()
    words = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *words))


def fooled(logits: Logits, x: Tensor, labels: Tensor) -> Tensor:
    """Which samples get another class than their label; of equal logits the first counts.

    Args:
        logits: the network; a module is run in evaluation mode.
        x: [B, ...].
        labels: int64 [B].

    Returns:
        Bool [B].
    """
    with torch.no_grad(), evaluating(logits):
        return logits(x).argmax(-1) != labels


def first_that_fools(
    attempts: Sequence[Attempt], x: Tensor, labels: Tensor, judge: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """For each sample the first attempt's candidate that fools, else the last one's: [B, ...].

    Args:
        attempts: one after the other, each on the samples that none before it has fooled.
        x: [B, ...].
        labels: int64 [B].
        judge: (candidates [A, ...], labels [A]) -> bool [A], such as `fooled` for a network.
    """
    best, left = x.clone(), torch.arange(len(x), device=x.device)
    for number, attempt in enumerate(attempts, start=1):
        best[left] = attempt(left)
        if number < len(attempts):
            left = left[~judge(best[left], labels[left])]
        if not len(left):
            break
    return best
