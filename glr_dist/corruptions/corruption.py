"""Corrupted images in five severities: what a network is worth on inputs that nobody attacked but the weather.

Those of the journal paper's table (2021) are in `imagenet_c`, those like MNIST-C's in `mnist_c`.

What is random in an image depends on (seed, corruption, severity, index of the image) and on nothing else, so neither the
batch's size nor its order nor who computes it changes a bit of the result.

B images, C channels, H rows, W columns; float32 in [0, 1], computed in float64.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from glr_dist.corruptions import imagenet_c, mnist_c
from glr_dist.errors import UserError, nearest
from glr_dist.seeds import Purpose, seed_of

Images = NDArray[np.float64]

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way of corrupting images."""

    number: int  # its place in the seeds; never to be changed or given to another
    # (images [B, C, H, W] in [0, 1], severity, a generator per image) -> new images, perhaps beyond [0, 1]
    apply: Callable[[Images, int, Iterable[Generator]], Images]
    needs: str | None = None  # a module of scikit-image, for those that call it


def known_corruption(name: str) -> Corruption:
    """The corruption of that name; raises UserError where there is none or its library is not installed."""
    if name not in CORRUPTIONS:
        raise UserError(f"--corruption {name!r}: unknown; {nearest(name, CORRUPTIONS)}")
    kind = CORRUPTIONS[name]
    if kind.needs:
        try:
            importlib.import_module(kind.needs)
        except ImportError as error:
            raise UserError(
                f"--corruption {name}: needs scikit-image ({error}); pip install 'glr-dist[corruptions]', or leave it out"
            ) from error
    return kind


def corrupt(name: str, images: Tensor, severity: int, *, seed: int, indices: NDArray[np.int64]) -> Tensor:
    """Images [B, C, H, W], float32 in [0, 1], after a corruption of severity 1 to 5: a fresh tensor alike, on their device.

    The indices [B] are the images' positions in their data set, 0 or more: each image's own part of the seed.

    Raises:
        UserError: unknown name or severity, a library that is not installed, or images of another shape, type or range.
    """
    kind = known_corruption(name)
    if severity not in SEVERITIES:
        raise UserError(f"--corruption {name}: severity {severity}: must be a whole number from 1 to 5")
    _check(name, images)
    assert indices.shape == images.shape[:1], (indices.shape, images.shape)
    if images.numel() == 0:
        return images.clone()
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


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian": Corruption(number=1, apply=imagenet_c.gaussian),
    "impulse": Corruption(number=2, apply=imagenet_c.impulse),
    "glass-blur": Corruption(number=3, apply=imagenet_c.glass_blur),
    "glass-blur-compat": Corruption(number=4, apply=imagenet_c.glass_blur_compat),
    "contrast": Corruption(number=5, apply=imagenet_c.contrast),
    "shot": Corruption(number=6, apply=mnist_c.shot),
    "shear": Corruption(number=7, apply=mnist_c.shear),
    "scale": Corruption(number=8, apply=mnist_c.scale),
    "rotate": Corruption(number=9, apply=mnist_c.rotate),
    "translate": Corruption(number=10, apply=mnist_c.translate),
    "brightness": Corruption(number=11, apply=mnist_c.brightness),
    "stripe": Corruption(number=12, apply=mnist_c.stripe),
    "canny-edges": Corruption(number=13, apply=mnist_c.canny_edges, needs="skimage.feature"),
}
