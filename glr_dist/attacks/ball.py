"""The L-infinity ball around images in [0, 1]: what may be attacked, how far an attack may go, and what is a success.

    ball(x) = {x' : |x' - x| <= epsilon in every pixel, 0 <= x' <= 1}

Shapes: B samples, C classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.input_gradient import evaluating
from glr_dist.errors import UserError

Logits = Callable[[Tensor], Tensor]  # [B, ...] -> [B, C], row by row, for any B


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


def check_attack(x: Tensor, labels: Tensor, epsilon: float) -> None:
    """Raise UserError unless ``x`` are images with labels, int64 [B], and the ball has a size."""
    check_images(x)
    if labels.dtype != torch.int64 or labels.shape != (len(x),):
        found = f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
        raise UserError(f"labels: {found} for {len(x)} images; must be int64 [{len(x)}]")
    finite("epsilon", epsilon, " (pixels are in [0, 1])")


def finite(flag: str, value: float, why: str = "") -> None:
    """Raise UserError, naming the flag, unless a value is finite and 0 or more."""
    if not math.isfinite(value) or value < 0:
        raise UserError(f"--{flag} {value}: must be a finite number, 0 or more{why}")


def refuse_size(epsilon: float) -> None:
    """Raise UserError for a ball that holds all there is: its size was meant in 255ths."""
    if epsilon > 1:
        hint = f"; {epsilon:g}/255 is {epsilon / 255:.4g}" if epsilon <= 255 else ""
        raise UserError(f"--epsilon {epsilon:g}: pixels are in [0, 1], and this is more than all of it{hint}")


def project(candidate: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """The point of ball(x) nearest to the candidate, to float32's precision; for epsilon 0 it is x bit for bit.

    ``x`` may broadcast to the candidate, [..., *pixels]; the result, of the candidate's shape, is a fresh tensor.
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
    """Which samples get another class than their label, bool [B]; of equal logits the first counts."""
    with torch.no_grad(), evaluating(logits):
        return logits(x).argmax(-1) != labels
