"""ImageNet-C's corruptions: the table's strengths, and glass blur pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.filters import gaussian
from skimage.util import random_noise
from torch import Tensor

from glr_dist.corruptions.corruption import SEVERITIES, corrupt


def count_up(images: Tensor) -> NDArray[np.int64]:
    return np.arange(len(images))


@pytest.mark.parametrize(("severity", "std"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1)))
def test_gaussian_noise_has_the_tables_standard_deviation(severity: int, std: float) -> None:
    grey = torch.full((100, 1, 28, 28), 0.5)  # 5 standard deviations from the clip
    noise = corrupt("gaussian", grey, severity, seed=1, indices=count_up(grey)) - 0.5
    n = noise.numel()
    assert noise.std().item() == pytest.approx(std, rel=5 / (2 * n) ** 0.5)
    assert abs(noise.mean().item()) < 5 * std / n**0.5
    assert abs(torch.corrcoef(noise.flatten(1))[0, 1].item()) < 0.2  # each image has its own


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), start=1)))
def test_impulses_hit_the_tables_share_of_values_half_salt_half_pepper(severity: int, share: float) -> None:
    grey = torch.full((40, 3, 32, 32), 0.5)
    out = corrupt("impulse", grey, severity, seed=1, indices=count_up(grey)).numpy()
    peer = random_noise(grey.numpy(), mode="s&p", amount=share, rng=np.random.default_rng(5))
    assert set(np.unique(out)) == set(np.unique(peer)) == {0.0, 0.5, 1.0}
    for extreme in (0.0, 1.0):
        sigma = (out.size * share / 2 * (1 - share / 2)) ** 0.5
        assert abs((out == extreme).sum() - out.size * share / 2) < 5 * sigma
        assert abs((out == extreme).sum() - (peer == extreme).sum()) < 5 * 2**0.5 * sigma


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1)))
def test_contrast_keeps_the_mean_of_each_image_and_channel(severity: int, factor: float) -> None:
    image = torch.tensor([[[0.0, 1.0], [0.25, 0.75]], [[0.0, 0.0], [0.0, 0.4]]])[None]  # means 0.5 and 0.1
    out = corrupt("contrast", image, severity, seed=0, indices=count_up(image))[0]
    grey, dark = 0.5 * factor, 0.1 * (1 - factor)
    half = [[0.5 - grey, 0.5 + grey], [0.5 - grey / 2, 0.5 + grey / 2]]
    torch.testing.assert_close(out[0], torch.tensor(half))
    torch.testing.assert_close(out[1], torch.tensor([[dark, dark], [dark, 0.1 + 0.3 * factor]]))


def draws_of(number: int, severity: int, index: int) -> np.random.Generator:
    """Those of an image under the seed 11."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(11, spawn_key=(0x636F7272, number, severity, index)))
    )


GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))


def through_glass(
    plane: NDArray[np.uint8], severity: int, axis: int | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One grey image, one pixel at a time, as the benchmark's authors wrote it (max shift 1)."""
    sigma, rounds = GLASS[severity - 1]
    rows, columns = plane.shape
    x = np.uint8(gaussian(plane / 255.0, sigma=sigma, channel_axis=axis) * 255 + 1e-4)
    moves = iter(rng.integers(-1, 1, (rounds * (rows - 2) * (columns - 2), 2)))
    for _ in range(rounds):
        for h in range(rows - 1, 1, -1):
            for w in range(columns - 1, 1, -1):
                dx, dy = next(moves)
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    swapped: NDArray[np.float64] = np.clip(gaussian(x / 255.0, sigma=sigma, channel_axis=axis), 0, 1)
    return swapped


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(("name", "number", "axis"), [("glass-blur", 3, None), ("glass-blur-compat", 4, -1)])
def test_glass_blur_is_the_original_loop_over_pixels(name: str, number: int, axis: int | None, severity: int) -> None:
    shape = (3, 2, 12, 9)
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    indices = np.array([4, 0, 900])
    out = corrupt(name, torch.from_numpy(pixels).float() / 255, severity, seed=11, indices=indices).numpy()
    for image, found, index in zip(pixels, out, indices, strict=True):
        for plane, channel in zip(image, found, strict=True):  # the same swaps in all channels
            expected = through_glass(plane, severity, axis, draws_of(number, severity, index))
            np.testing.assert_array_equal(channel, expected.astype(np.float32))
