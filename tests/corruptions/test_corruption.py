"""Corruptions: the table's strengths, one draw per image whatever the batch, and glass blur pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.filters import gaussian
from skimage.util import random_noise
from sklearn.datasets import load_digits
from torch import Tensor

from glr_dist.corruptions.corruption import CORRUPTIONS, SEVERITIES, corrupt
from glr_dist.errors import UserError

KEY = 0x636F7272
SHAPES = ((1, 1, 1), (1, 8, 8), (1, 14, 14), (1, 28, 28), (3, 32, 32), (2, 5, 9))


def count_up(images: Tensor) -> NDArray[np.int64]:
    return np.arange(len(images))


def some_images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stream(seed: int, number: int, severity: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(KEY, number, severity, index))))


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
            expected = through_glass(plane, severity, axis, stream(11, number, severity, index))
            np.testing.assert_array_equal(channel, expected.astype(np.float32))


@pytest.mark.parametrize("severity", [2, 5])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(name: str, severity: int) -> None:
    images = some_images((7, 2, 13, 11))
    indices = np.array([5, 0, 123456, 8, 7, 1, 2])
    whole = corrupt(name, images, severity, seed=3, indices=indices)
    for i in range(7):
        alone = corrupt(name, images[i : i + 1], severity, seed=3, indices=indices[i : i + 1])
        assert alone.equal(whole[i : i + 1])
    order = np.array([3, 6, 0, 1])
    assert corrupt(name, images[order], severity, seed=3, indices=indices[order]).equal(whole[order])
    laid_out_otherwise = images.contiguous(memory_format=torch.channels_last)
    assert corrupt(name, laid_out_otherwise, severity, seed=3, indices=indices).equal(whole)


def test_draws_come_from_seed_corruption_severity_and_index_for_good() -> None:
    grey = torch.full((1, 1, 4, 4), 0.5)
    out = corrupt("gaussian", grey, 2, seed=9, indices=np.array([77]))
    expected = 0.5 + 0.06 * stream(9, 1, 2, 77).standard_normal((1, 1, 4, 4))
    np.testing.assert_array_equal(out.numpy(), expected.astype(np.float32))
    for seed, index in ((10, 77), (9, 78)):
        assert not corrupt("gaussian", grey, 2, seed=seed, indices=np.array([index])).equal(out)


def test_numbers_in_the_seeds_are_never_given_twice() -> None:
    numbers = [corruption.number for corruption in CORRUPTIONS.values()]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_highest_severity_changes_digits_more_than_the_lowest(name: str) -> None:
    digits = torch.from_numpy(load_digits().images[:100, None] / 16.0).float()
    low, high = (
        (corrupt(name, digits, severity, seed=0, indices=count_up(digits)) - digits).abs().mean().item()
        for severity in (1, 5)
    )
    assert high > low > 0.0


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(CORRUPTIONS)),
    severity=st.sampled_from(SEVERITIES),
    shape=st.sampled_from(SHAPES),
    batch=st.integers(0, 3),
    seed=st.integers(0, 2**40),
    level=st.sampled_from((None, 0.0, 1.0, 1e-40)),
)
def test_images_stay_images(
    name: str, severity: int, shape: tuple[int, ...], batch: int, seed: int, level: float | None
) -> None:
    images = some_images((batch, *shape), seed) if level is None else torch.full((batch, *shape), level)
    before = images.clone()
    out = corrupt(name, images, severity, seed=seed, indices=count_up(images))
    assert (out.shape, out.dtype) == (images.shape, torch.float32)
    assert out.ge(0).all()
    assert out.le(1).all()
    assert images.equal(before)
    assert batch == 0 or out.data_ptr() != images.data_ptr()


GOOD = torch.full((2, 1, 8, 8), 0.5)


@pytest.mark.parametrize(
    ("name", "images", "severity", "message"),
    [
        ("gausian", GOOD, 1, "--corruption 'gausian': unknown; did you mean 'gaussian'"),
        ("contrast", GOOD, 0, "--corruption contrast: severity 0: must be a whole number from 1 to 5"),
        ("contrast", GOOD, 6, "severity 6: must be a whole number from 1 to 5"),
        ("shear", GOOD.flatten(1), 1, r"--corruption shear: the images have shape \[2, 64\]: must be \[B, C, H, W\]"),
        ("shear", GOOD.double(), 1, r"are float64: must be float32 in \[0, 1\]"),
        ("shear", GOOD.byte(), 1, r"are uint8: must be float32 in \[0, 1\]"),
        ("shear", GOOD * 255, 1, r"hold values from 127.5 to 127.5: must be in \[0, 1\]"),
        ("shear", GOOD - 1, 1, r"hold values from -0.5 to -0.5: must be in \[0, 1\]"),
        ("shear", GOOD * torch.nan, 1, r"hold values from nan to nan: must be in \[0, 1\]"),
    ],
)
def test_mistakes_are_told_in_one_line(name: str, images: Tensor, severity: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        corrupt(name, images, severity, seed=0, indices=count_up(images))
    assert "\n" not in str(told.value)
