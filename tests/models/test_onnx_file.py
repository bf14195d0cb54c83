"""Exported networks, run by onnxruntime: the same outputs, and the same class for every image."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hard_nets import SHAPE, hard_images
from numpy.typing import NDArray
from small_nets import digits, trained_mlp
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP, ConvNet, InputThreshold, Standardize, Thermometer
from glr_dist.models.onnx_file import onnx_bytes


def run(content: bytes, x: Tensor) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"X": x.numpy()})
    return np.asarray(found)


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    pooled = nn.Conv2d(1, 4, 3, stride=2, padding=(2, 1), dilation=1)
    return {
        "thresholds": MLP(16, [12, 9], 4, "heaviside", [InputThreshold(0.3)]),
        "thermometer": MLP(16, [12], 4, "heaviside", [Thermometer([0.3, 0.6])]),
        "standardized": MLP(16, [12], 4, "heaviside", [Standardize(0.13, 0.31)]),
        "relu": MLP(16, [12], 4, "relu"),
        "conv": ConvNet(SHAPE, (3, 2), 2, 1, 4, "heaviside", [Thermometer([0.3, 0.6])]),
        "conv, same": nn.Sequential(
            nn.Conv2d(1, 3, (1, 3), padding="same"), Heaviside(), nn.Flatten(), nn.Linear(48, 4, bias=False)
        ),
        "pooled": nn.Sequential(
            pooled,
            Heaviside(),
            nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False),
            nn.Flatten(),
            nn.Linear(48, 4),
        ),
    }


@pytest.mark.parametrize("name", list(networks()))
def test_onnxruntime_gives_the_same_outputs(name: str) -> None:
    model = networks()[name].requires_grad_(False).eval()
    x = torch.rand(200, *SHAPE, generator=torch.Generator().manual_seed(3))
    want = model(x)
    found = torch.from_numpy(run(onnx_bytes(model, SHAPE), x))
    differ = ((found - want).abs().amax(1) > 1e-4).float().mean()
    assert differ == 0.0


def test_ties_and_pixels_on_a_threshold_are_told_alike() -> None:
    """Sums of small whole numbers are exact, so bits at exactly 0 must agree; ONNX's own Sign(0) would be 0."""
    model = MLP(16, [40], 4, "heaviside", [Thermometer([0.3, 0.5])]).requires_grad_(False)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(torch.randint(-2, 3, layer.weight.shape, generator=torch.Generator().manual_seed(1)))
            layer.bias.zero_()
    x = hard_images(np.random.default_rng(0), 300)
    seen = model[2](model[1](model[0](x)))
    assert (seen == 0).float().mean() > 0.05
    assert torch.equal(torch.from_numpy(run(onnx_bytes(model, SHAPE), x)), model(x))


def test_a_trained_network_tells_the_same_class_of_every_image() -> None:
    model = trained_mlp("heaviside", 24, first=[InputThreshold(0.5)])
    content = onnx_bytes(model, (1, 8, 8))
    x, _ = next(iter(digits().batches("test", 400)))
    assert (run(content, x).argmax(1) == model(x).argmax(1).numpy()).all()
    made = onnx.load_from_string(content)
    assert {node.op_type for node in made.graph.node} == {"GreaterOrEqual", "Cast", "Flatten", "Gemm"}


def test_another_layer_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"--onnx: knows nothing of layer '1' \(Tanh\)"):
        onnx_bytes(nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(16, 2)), SHAPE)
