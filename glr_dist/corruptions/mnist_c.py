"""Corruptions like those of MNIST-C (Mu & Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", 2019).

"Like": the parameters are those that its authors published, the code is not, so the pictures are not theirs bit for bit.
What differs: images of any size (MNIST-C's pixels are 28ths of the side) and any number of channels (one geometric
transform for all of them); and the two that MNIST-C has in one strength only, stripe and canny-edges, get five here, of
which the fifth is MNIST-C's.

The geometric ones look each pixel's value up at ``centre + A (position - centre) + shift``, bilinearly, 0 outside the
image. Positions are (row, column).

B images, C channels, H rows, W columns. Each takes images [B, C, H, W] in [0, 1], a severity from 1 to 5 and a generator per
image, and returns the same shape; what leaves [0, 1] is clipped by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[np.float64]

_SIDE = 28  # rows and columns of the images that MNIST-C's lengths are meant for
_PHOTONS = (60.0, 25.0, 12.0, 5.0, 3.0)  # of a white pixel
_SHEARS = (0.2, 0.4, 0.6, 0.8, 1.0)  # radians
_SIZES = (0.9, 0.8, 0.7, 0.6, 0.5)  # of the original's side
_ANGLES = (0.2, 0.4, 0.6, 0.8, 1.0)  # radians
_SHIFTS = (1.0, 2.0, 3.0, 4.0, 5.0)  # pixels of an image of 28 x 28
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_STRIPE_SHARE = 20  # severity s inverts s/20 of the width at either side; MNIST-C: a quarter
_EDGE_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)


def shot(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Photon noise: Poisson counts, the fewer photons a white pixel has the stronger."""
    photons = _PHOTONS[severity - 1]
    counts = [rng.poisson(image * photons) for image, rng in zip(images, rngs, strict=True)]
    return np.stack(counts) / photons


def shear(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Lean to the left or the right, at random.

    A shear angle c is what it was in the scikit-image of 2019: the column moves by ``sin c`` of the row, and the row
    shrinks by ``cos c``.
    """
    angles = [_SHEARS[severity - 1] * _sign(rng) for rng in rngs]
    return _look_up(images, [((math.cos(c), 0.0), (-math.sin(c), 1.0)) for c in angles])


def scale(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Shrink about the centre; nothing is random."""
    factor = 1.0 / _SIZES[severity - 1]
    return _look_up(images, [((factor, 0.0), (0.0, factor))] * len(images))


def rotate(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Rotate about the centre, clockwise or anticlockwise at random."""
    angles = [_ANGLES[severity - 1] * _sign(rng) for rng in rngs]
    return _look_up(images, [((math.cos(c), math.sin(c)), (-math.sin(c), math.cos(c))) for c in angles])


def translate(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Shift along both axes by the same share of the side, each up or down at random."""
    rows, columns = (_SHIFTS[severity - 1] * side / _SIDE for side in images.shape[2:])
    shifts = [(rows * _sign(rng), columns * _sign(rng)) for rng in rngs]
    return _look_up(images, [((1.0, 0.0), (0.0, 1.0))] * len(images), shifts)


def brightness(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Raise the value of hue-saturation-value, which is the largest channel; hue and saturation stay."""
    value = images.max(axis=1, keepdims=True)
    raised = np.minimum(value + _BRIGHTER[severity - 1], 1.0)
    black = value == 0.0
    brighter: Images = np.where(black, raised, images * (raised / np.where(black, 1.0, value)))
    return brighter


def stripe(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Invert columns at either side, which leaves a stripe in the middle; nothing is random.

    So many twentieths of the width as the severity says, rounded up to whole columns.
    """
    columns = images.shape[3]
    width = -(-columns * severity // _STRIPE_SHARE)
    from_side = np.minimum(np.arange(columns), np.arange(columns)[::-1])
    return np.where(from_side < width, 1.0 - images, images)


def canny_edges(images: Images, severity: int, rngs: Iterable[Generator]) -> Images:
    """Blend with the image's edges (Canny, 1986), channel by channel; nothing is random.

    So many fifths of the edges as the severity says: 5 leaves the edges alone.
    """
    from skimage import feature  # an extra: see `corruption.Corruption.needs`

    share = _EDGE_SHARES[severity - 1]
    edges = [[feature.canny(plane) for plane in image] for image in images]  # type: ignore[no-untyped-call]
    return (1.0 - share) * images + share * np.array(edges, dtype=np.float64)


def _sign(rng: Generator) -> int:
    """-1 or 1."""
    return 2 * int(rng.integers(2)) - 1


def _look_up(
    images: Images,
    maps: list[tuple[tuple[float, float], tuple[float, float]]],
    shifts: list[tuple[float, float]] | None = None,
) -> Images:
    """Each image's values where its map [2, 2] about the centre, and then its shift (rows, columns), lead to."""
    centre = (np.array(images.shape[2:]) - 1) / 2
    out = np.empty_like(images)
    for i, (image, matrix) in enumerate(zip(images, maps, strict=True)):
        offset = centre - np.asarray(matrix) @ centre + (0.0 if shifts is None else np.asarray(shifts[i]))
        for plane, target in zip(image, out[i], strict=True):
            # "grid-constant" blends with the 0 outside where "constant" would cut hard, a pixel inside the border
            ndimage.affine_transform(plane, matrix, offset, output=target, order=1, mode="grid-constant", cval=0.0)
    return out
