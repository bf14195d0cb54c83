"""The named networks: shapes and sizes counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from glr_dist.core.activations import Heaviside, straight_through
from glr_dist.core.passes import folds
from glr_dist.core.probing import find_sites
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP, ConvNet, InputThreshold


def test_mlp_has_the_layers_named_and_no_unit_after_the_last() -> None:
    model = MLP(784, [50, 20], 10, "heaviside")
    assert [type(layer) for layer in model] == [nn.Flatten, nn.Linear, Heaviside, nn.Linear, Heaviside, nn.Linear]
    assert sum(p.numel() for p in model.parameters()) == 784 * 50 + 50 + 50 * 20 + 20 + 20 * 10 + 10
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert model(torch.zeros(3, 784)).shape == (3, 10)


def test_mlp_without_hidden_layers_is_linear() -> None:
    model = MLP(4, [], 3, "relu")
    x, y = torch.randn(2, 5, 4)
    torch.testing.assert_close(model(x) + model(y), model(x + y) + model(torch.zeros(5, 4)))


def test_conv_net_of_the_mnist_preset() -> None:
    model = ConvNet([1, 28, 28], [8, 16], 5, 2, 10, "heaviside")  # 28 -> 12 -> 4
    assert model.features(torch.zeros(2, 1, 28, 28)).shape == (2, 16, 4, 4)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == 25 * 8 + 8 + 25 * 8 * 16 + 16 + 256 * 10 + 10


@pytest.mark.parametrize(("size", "kernel", "stride"), [(9, 3, 1), (8, 5, 2), (5, 5, 1), (11, 4, 3)])
def test_conv_net_counts_pixels_as_torch_does(size: int, kernel: int, stride: int) -> None:
    model = ConvNet([3, size, size + 1], [2], kernel, stride, 4, "tanh")
    assert model(torch.zeros(2, 3, size, size + 1)).shape == (2, 4)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ([1, 8, 8], [4, 4], "2 convolutions leave nothing of 8x8 pixels; lower model.kernel"),
        ([1, 28, 4], [4], "1 convolutions leave nothing of 28x4 pixels"),
        ([64], [4], r"needs images \[C, H, W\], the data has shape \[64\]; use 'mlp'"),
    ],
)
def test_images_too_small_for_the_convolutions_are_refused(shape: list[int], channels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ConvNet(shape, channels, 5, 2, 10, "heaviside")


def test_an_input_threshold_turns_pixels_into_bits_from_the_threshold_up() -> None:
    below, above = (float(torch.nextafter(torch.tensor(0.3), torch.tensor(end))) for end in (0.0, 1.0))
    x = torch.tensor([[0.0, below, 0.3, above, 1.0]])
    assert InputThreshold(0.3)(x).tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_behind_an_input_threshold_only_the_bits_count(kind: str) -> None:
    torch.manual_seed(0)
    first = [InputThreshold(0.5)]
    model = (
        MLP(64, [6], 3, "heaviside", first) if kind == "mlp" else ConvNet([1, 8, 8], [4], 3, 2, 3, "heaviside", first)
    )
    x = torch.rand(20, 1, 8, 8)
    assert torch.equal(model(x), model((x >= 0.5).float()))
    assert not torch.equal(model(x), model(1.0 - x))
    plain, thresholded = (find_sites(m, (1, 8, 8)) for m in (MLP(64, [6], 3, "heaviside"), model))
    assert len(thresholded) == len(plain) == 2  # noise goes where it went: the threshold is no site of its own
    assert [site.binary for site in thresholded] == [True, False]
    assert folds(model, thresholded, (1, 8, 8))


def test_an_input_threshold_has_a_derivative_only_on_the_straight_through_twin() -> None:
    model = MLP(4, [3], 2, "heaviside", [InputThreshold(0.5)])
    x = torch.full((1, 4), 0.6, requires_grad=True)
    assert not InputThreshold(0.5)(x).requires_grad
    with straight_through():
        (gradient,) = torch.autograd.grad(model[0](x).sum(), x)  # type: ignore[operator]
    assert gradient.tolist() == [[0.5] * 4]
