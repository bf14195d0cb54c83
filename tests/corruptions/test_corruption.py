"""Corruptions: one draw per image whatever the batch, images stay images, and what is refused."""

from __future__ import annotations

import sys
from subprocess import run

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from glr_dist.corruptions.corruption import CORRUPTIONS, SEVERITIES, corrupt, known_corruption
from glr_dist.errors import UserError

KEY = 0x636F7272
SHAPES = ((1, 1, 1), (1, 8, 8), (1, 14, 14), (1, 28, 28), (3, 32, 32), (2, 5, 9))


def count_up(images: Tensor) -> NDArray[np.int64]:
    return np.arange(len(images))


def some_images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def stream(seed: int, number: int, severity: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(KEY, number, severity, index))))


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


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_without_scikit_image_edges_name_the_extra_and_the_others_are_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    if name != "canny-edges":
        known_corruption(name)
        return
    for ask in (known_corruption, lambda name: corrupt(name, GOOD, 1, seed=0, indices=count_up(GOOD))):
        with pytest.raises(UserError, match=r"^--corruption canny-edges: needs scikit-image .*glr-dist\[corruptions\]"):
            ask(name)


def test_scikit_image_is_asked_for_by_edges_alone() -> None:
    code = "import sys, glr_dist.corruptions.mnist_c; sys.exit('skimage' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
