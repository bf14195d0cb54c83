"""Corrupted images in five severities: what a network is worth on inputs that nobody attacked but the weather.

``gaussian``, ``impulse``, ``glass-blur`` and ``contrast`` are those of the journal paper's table (2021): ImageNet-C's
(Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", 2019) in the
strengths of CIFAR-10-C. ``glass-blur-compat`` is the glass blur as the table's authors ran it. The others are like those of
MNIST-C, see `mnist_c`.

What is random in an image depends on (seed, corruption, severity, index of the image) and on nothing else, so neither the
batch's size nor its order nor who computes it changes a bit of the result.

B images, C channels, H rows, W columns; float32 in [0, 1], computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from glr_dist.corruptions import mnist_c
from glr_dist.corruptions.mnist_c import Images
from glr_dist.errors import UserError, nearest
from glr_dist.seeds import Purpose, seed_of

SEVERITIES = (1, 2, 3, 4, 5)

_STDS = (0.04, 0.06, 0.08, 0.09, 0.10)
_SHARES = (0.01, 0.02, 0.03, 0.05, 0.07)  # of pixels hit
_GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))  # sigma and max shift in pixels, rounds
_FACTORS = (0.75, 0.5, 0.4, 0.3, 0.15)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way of corrupting images.

    Attributes:
        number: its place in the seeds; never to be changed or given to another.
        apply: (images [B, C, H, W] in [0, 1], severity, one generator per image) -> the same shape; may leave [0, 1],
            and doesn't change its argument.
    """

    number: int
    apply: Callable[[Images, int, Iterable[Generator]], Images]


def corrupt(name: str, images: Tensor, severity: int, *, seed: int, indices: NDArray[np.int64]) -> Tensor:
    """Corrupt a batch of images.

    Args:
        name: one of CORRUPTIONS.
        images: [B, C, H, W] float32 in [0, 1].
        severity: 1 to 5.
        seed: of the evaluation, 0 or more.
        indices: [B] each image's position in its data set, 0 or more: its own part of the seed.

    Returns:
        A fresh tensor of the same shape and device, float32 in [0, 1].

    Raises:
        UserError: unknown name or severity, or images of another shape, type or range.
    """
    if name not in CORRUPTIONS:
        raise UserError(f"--corruption {name!r}: unknown; {nearest(name, CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UserError(f"--corruption {name}: severity {severity}: must be a whole number from 1 to 5")
    _check(name, images)
    assert indices.shape == images.shape[:1], (indices.shape, images.shape)
    if images.numel() == 0:
        return images.clone()
    kind = CORRUPTIONS[name]
    plain = np.ascontiguousarray(images.detach().cpu().numpy(), dtype=np.float64)
    changed = kind.apply(plain, severity, _generators(seed, kind.number, severity, indices))
    return torch.from_numpy(np.clip(changed, 0.0, 1.0).astype(np.float32)).to(images.device)


def _check(name: str, images: Tensor) -> None:
    """Raise UserError unless these are images [B, C, H, W], float32 in [0, 1]."""
    where = f"--corruption {name}: the images"
    if images.ndim != 4:
        raise UserError(
            f"{where} have shape {list(images.shape)}: must be [B, C, H, W]; "
            "choose a data set of images, or leave --corruption out"
        )
    if images.dtype != torch.float32:
        raise UserError(f"{where} are {str(images.dtype).removeprefix('torch.')}: must be float32 in [0, 1]")
    if images.numel() == 0:
        return
    low, high = (float(bound) for bound in images.aminmax())
    if not (low >= 0.0 and high <= 1.0):  # written so that NaN fails
        raise UserError(f"{where} hold values from {low:g} to {high:g}: must be in [0, 1]")


def _generators(seed: int, number: int, severity: int, indices: NDArray[np.int64]) -> Iterator[Generator]:
    """Each image's own generator, made only when asked for."""
    for index in indices:
        yield Generator(np.random.PCG64(seed_of(seed, Purpose.CORRUPTION, number, severity, index)))


def _gaussian(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Independent noise on every value."""
    noise = np.stack([rng.standard_normal(images.shape[1:]) for rng in rngs])
    return images + _STDS[severity - 1] * noise


def _impulse(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Salt and pepper: a share of all values, in each channel on its own, is set to 0 or 1, each half of the time."""
    share = _SHARES[severity - 1]
    u = np.stack([rng.random(images.shape[1:]) for rng in rngs])
    return np.where(u < share, (u < share / 2).astype(np.float64), images)


def _glass_blur(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Blur, let pixels change places with near ones, blur again."""
    sigma, reach, rounds = _GLASS[severity - 1]
    return _through_glass(images, (0.0, 0.0, sigma, sigma), reach, rounds, rngs)


def _glass_blur_compat(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """The glass blur as the table's authors ran it: the blur mixes rows, but not columns.

    They gave the grey image [H, W] to a function made for colour images [H, W, C], whose Gaussian filter leaves the last
    axis alone. The swaps are the same.
    """
    sigma, reach, rounds = _GLASS[severity - 1]
    return _through_glass(images, (0.0, 0.0, sigma, 0.0), reach, rounds, rngs)


def _through_glass(
    images: Images, sigmas: tuple[float, ...], reach: int, rounds: int, rngs: Iterable[Generator]
) -> Images:
    """ImageNet-C's glass blur with one sigma per axis (pixels), its rounding down to 8 bits between the steps included."""
    blurred = ndimage.gaussian_filter(images, sigmas, mode="nearest")
    levels = np.floor(255.0 * blurred + 1e-4)  # k/255 in float32 may come out just below k
    swapped = _swap(levels / 255.0, reach, rounds, rngs)
    out: Images = ndimage.gaussian_filter(swapped, sigmas, mode="nearest")
    return out


def _swap(images: Images, reach: int, rounds: int, rngs: Iterable[Generator]) -> Images:
    """From the last pixel to the first: each changes places with one at most `reach` before or `reach` - 1 after it.

    A swap sees what the earlier ones have done, so the pixels are walked through one by one, all images at once. Rows and
    columns within `reach` of the top and left border are never the first of a pair. All channels move together.
    """
    batch, channels, rows, columns = images.shape
    walked = (max(rows - 2 * reach, 0), max(columns - 2 * reach, 0))
    draws = np.stack([rng.integers(-reach, reach, (rounds, *walked, 2)) for rng in rngs])  # [.., 0]: along the columns
    steps = draws[..., 1] * columns + draws[..., 0]
    steps = np.ascontiguousarray(steps.reshape(batch, -1).T)  # [walk, B]
    flat = np.ascontiguousarray(images.reshape(batch, channels, -1).transpose(2, 0, 1))  # [H * W, B, C]
    own = np.arange(batch)
    once = [
        row * columns + column for row in range(rows - reach, reach, -1) for column in range(columns - reach, reach, -1)
    ]
    for here, step in zip(once * rounds, steps, strict=True):
        there = here + step
        kept = flat[here].copy()
        flat[here] = flat[there, own]
        flat[there, own] = kept
    return np.ascontiguousarray(flat.transpose(1, 2, 0)).reshape(images.shape)


def _contrast(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Pull the values towards the mean of their image and channel; nothing is random."""
    means = images.mean(axis=(2, 3), keepdims=True)
    pulled: Images = means + _FACTORS[severity - 1] * (images - means)
    return pulled


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian": Corruption(number=1, apply=_gaussian),
    "impulse": Corruption(number=2, apply=_impulse),
    "glass-blur": Corruption(number=3, apply=_glass_blur),
    "glass-blur-compat": Corruption(number=4, apply=_glass_blur_compat),
    "contrast": Corruption(number=5, apply=_contrast),
    "shot": Corruption(number=6, apply=mnist_c.shot),
    "shear": Corruption(number=7, apply=mnist_c.shear),
    "scale": Corruption(number=8, apply=mnist_c.scale),
    "rotate": Corruption(number=9, apply=mnist_c.rotate),
    "translate": Corruption(number=10, apply=mnist_c.translate),
    "brightness": Corruption(number=11, apply=mnist_c.brightness),
    "stripe": Corruption(number=12, apply=mnist_c.stripe),
    "canny-edges": Corruption(number=13, apply=mnist_c.canny_edges),
}
