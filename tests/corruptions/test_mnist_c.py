"""The corruptions like MNIST-C's, against torch's sampling, scikit-image's colours and edges, and values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import color, feature
from torch import Tensor

from glr_dist.corruptions.corruption import SEVERITIES, corrupt

ANGLES = (0.2, 0.4, 0.6, 0.8, 1.0)


def corrupted(name: str, images: Tensor, severity: int, seed: int = 0) -> Tensor:
    return corrupt(name, images, severity, seed=seed, indices=np.arange(len(images)))


def some_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(4))


def sampled(images: Tensor, matrix: list[list[float]], shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Images [B, C, N, N] looked up at matrix @ (column, row) about the centre + shift (columns, rows), by torch."""
    side = images.shape[-1]
    theta = torch.cat([torch.tensor(matrix), torch.tensor(shift)[:, None] * 2 / (side - 1)], dim=1).double()
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=True)
    return F.grid_sample(images.double(), grid, align_corners=True, padding_mode="zeros").float()


def assert_one_of_each(found: Tensor, candidates: list[Tensor]) -> None:
    """Each image of `found` equals that of one of the candidates, and each candidate has its turn."""
    near = torch.stack([(found - candidate).abs().amax(dim=(1, 2, 3)) < 1e-5 for candidate in candidates])
    assert near.sum(dim=0).eq(1).all()
    assert near.any(dim=1).all()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("side", [14, 28])
def test_rotation_turns_about_the_centre_either_way(severity: int, side: int) -> None:
    images = some_images(20, 3, side, side)
    c, s = math.cos(ANGLES[severity - 1]), math.sin(ANGLES[severity - 1])
    turns = [sampled(images, [[c, -way * s], [way * s, c]]) for way in (1, -1)]
    assert_one_of_each(corrupted("rotate", images, severity), turns)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shear_leans_either_way(severity: int) -> None:
    images = some_images(20, 3, 28, 28)
    c, s = math.cos(ANGLES[severity - 1]), math.sin(ANGLES[severity - 1])
    leans = [sampled(images, [[1.0, -way * s], [0.0, c]]) for way in (1, -1)]
    assert_one_of_each(corrupted("shear", images, severity), leans)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_scale_shrinks_to_nine_to_five_tenths(severity: int) -> None:
    images = some_images(4, 2, 28, 28)
    factor = 10 / (10 - severity)
    expected = sampled(images, [[factor, 0.0], [0.0, factor]])
    torch.testing.assert_close(corrupted("scale", images, severity), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("side", [8, 14, 32])
def test_translation_goes_to_all_four_corners_by_28ths_of_the_side(severity: int, side: int) -> None:
    images = some_images(40, 1, side, side)
    step = severity * side / 28
    corners = [(columns * step, rows * step) for columns in (1, -1) for rows in (1, -1)]
    moved = [sampled(images, [[1.0, 0.0], [0.0, 1.0]], corner) for corner in corners]
    assert_one_of_each(corrupted("translate", images, severity), moved)


def test_translation_of_28_pixels_a_side_is_by_whole_pixels() -> None:
    dot = torch.zeros(30, 1, 28, 28)
    dot[:, :, 10, 15] = 1.0
    out = corrupted("translate", dot, 3)
    places = {tuple(map(int, image.nonzero()[0])) for image in out[:, 0]}
    assert places == {(7, 12), (7, 18), (13, 12), (13, 18)}
    torch.testing.assert_close(out.sum(dim=(1, 2, 3)), torch.ones(30))


def test_a_geometric_transform_is_the_same_for_all_channels() -> None:
    images = some_images(6, 1, 16, 12).expand(6, 3, 16, 12)
    for name in ("shear", "scale", "rotate", "translate"):
        out = corrupted(name, images, 4)
        assert out.equal(out[:, :1].expand_as(out)), name


@pytest.mark.parametrize(("severity", "photons"), list(enumerate((60, 25, 12, 5, 3), start=1)))
def test_shot_noise_counts_photons(severity: int, photons: int) -> None:
    level = 0.2
    images = torch.full((100, 1, 28, 28), level)
    images[:, :, :3] = 0.0
    counts = corrupted("shot", images, severity).double() * photons
    assert counts.sub(counts.round()).abs().max() < 1e-4
    assert counts[:, :, :3].eq(0).all()
    lit = counts[:, :, 3:].flatten()
    rate = level * photons
    cut = [min(n, photons) for n in range(100)]  # brighter than white is clipped
    weights = [math.exp(-rate + n * math.log(rate) - math.lgamma(n + 1)) for n in range(100)]
    mean = sum(w * n for w, n in zip(weights, cut, strict=True))
    variance = sum(w * (n - mean) ** 2 for w, n in zip(weights, cut, strict=True))
    fourth = sum(w * (n - mean) ** 4 for w, n in zip(weights, cut, strict=True))
    assert abs(lit.mean().item() - mean) < 5 * (variance / len(lit)) ** 0.5
    assert abs(lit.var().item() - variance) < 5 * ((fourth - variance**2) / len(lit)) ** 0.5


@pytest.mark.parametrize(("severity", "more"), list(enumerate((0.1, 0.2, 0.3, 0.4, 0.5), start=1)))
def test_brightness_raises_the_value_of_hsv(severity: int, more: float) -> None:
    grey = some_images(3, 1, 8, 8)
    grey[0, 0, 0] = 0.0
    torch.testing.assert_close(corrupted("brightness", grey, severity), (grey + more).clamp(max=1.0))
    colours = some_images(3, 3, 8, 8)
    colours[0, :, 0] = 0.0
    hsv = color.rgb2hsv(colours.numpy().astype(np.float64), channel_axis=1)
    hsv[:, 2] = np.minimum(hsv[:, 2] + more, 1.0)
    expected = torch.from_numpy(color.hsv2rgb(hsv, channel_axis=1)).float()
    torch.testing.assert_close(corrupted("brightness", colours, severity), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("severity", "width"), list(enumerate((2, 3, 5, 6, 7), start=1)))
def test_stripe_inverts_up_to_a_quarter_at_either_side(severity: int, width: int) -> None:
    images = some_images(2, 3, 28, 28)
    out = corrupted("stripe", images, severity)
    assert out[..., width : 28 - width].equal(images[..., width : 28 - width])
    for side in (slice(0, width), slice(28 - width, 28)):
        torch.testing.assert_close(out[..., side], 1 - images[..., side])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_canny_edges_fade_in_until_only_they_are_left(severity: int) -> None:
    images = F.interpolate(some_images(3, 2, 4, 4), scale_factor=7, mode="nearest")
    edges = np.array([[feature.canny(plane) for plane in image] for image in images.double().numpy()])
    assert edges.any()
    expected = images * (1 - severity / 5) + torch.from_numpy(edges) * (severity / 5)
    torch.testing.assert_close(corrupted("canny-edges", images, severity), expected)


def test_an_image_of_one_colour_has_no_edges() -> None:
    assert corrupted("canny-edges", torch.zeros(1, 1, 28, 28), 5).eq(0).all()
