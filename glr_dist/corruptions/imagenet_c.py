"""The corruptions of the journal paper's table (2021): ImageNet-C's, in the strengths of CIFAR-10-C.

Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", 2019. The glass
blur is here twice: as its authors wrote it, and as the authors of the table ran it.

B images, C channels, H rows, W columns. Each takes images [B, C, H, W] in [0, 1], a severity from 1 to 5 and a generator per
image, and returns the same shape; what leaves [0, 1] is clipped by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[np.float64]

_STDS = (0.04, 0.06, 0.08, 0.09, 0.10)
_SHARES = (0.01, 0.02, 0.03, 0.05, 0.07)  # of pixels hit
_GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))  # sigma and max shift in pixels, rounds
_FACTORS = (0.75, 0.5, 0.4, 0.3, 0.15)


def gaussian(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Independent noise on every value."""
    noise = np.stack([rng.standard_normal(images.shape[1:]) for rng in rngs])
    return images + _STDS[severity - 1] * noise


def impulse(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Salt and pepper: a share of all values, in each channel on its own, is set to 0 or 1, each half of the time."""
    share = _SHARES[severity - 1]
    u = np.stack([rng.random(images.shape[1:]) for rng in rngs])
    return np.where(u < share, (u < share / 2).astype(np.float64), images)


def glass_blur(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Blur, let pixels change places with near ones, blur again."""
    return _through_glass(images, severity, rngs, along_columns=True)


def glass_blur_compat(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """The glass blur as the table's authors ran it: the blur mixes rows, but not columns.

    They gave the grey image [H, W] to a function made for colour images [H, W, C], whose Gaussian filter leaves the last
    axis alone. The swaps are the same.
    """
    return _through_glass(images, severity, rngs, along_columns=False)


def _through_glass(images: Images, severity: int, rngs: Iterable[Generator], *, along_columns: bool) -> Images:
    """ImageNet-C's glass blur, its rounding down to 8 bits between the steps included."""
    sigma, reach, rounds = _GLASS[severity - 1]
    sigmas = (0.0, 0.0, sigma, sigma if along_columns else 0.0)
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


def contrast(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Pull the values towards the mean of their image and channel; nothing is random."""
    means = images.mean(axis=(2, 3), keepdims=True)
    pulled: Images = means + _FACTORS[severity - 1] * (images - means)
    return pulled
