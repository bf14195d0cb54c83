"""The networks that the presets name: multi-layer perceptrons and small convolutional nets with any unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from glr_dist.core.activations import activation, heaviside
from glr_dist.errors import UserError


class InputThreshold(nn.Module):
    """A Heaviside unit per input pixel: 1 where it is at least ``threshold`` (input units, as a float32), else 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape. A float32 difference has the sign of the exact one, so this compares exactly."""
        return heaviside(x - self.threshold)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of it."""
        return f"threshold={self.threshold}"


class Thermometer(nn.Module):
    """Several Heaviside units per input: one for each of the ``thresholds`` (input units, as float32), which ascend.

    [B, N, ...] -> [B, T * N, ...]: the units of the first threshold come first.
    """

    def __init__(self, thresholds: Sequence[float]) -> None:
        super().__init__()
        self.thresholds = tuple(thresholds)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; compares exactly, as `InputThreshold` does."""
        return torch.cat([heaviside(x - threshold) for threshold in self.thresholds], dim=1)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of it."""
        return f"thresholds={self.thresholds}"


class Standardize(nn.Module):
    """(x - mean) / std with fixed numbers: torchvision's Normalize inside the network, so that attacks see plain pixels."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of it."""
        return f"mean={self.mean}, std={self.std}"


def _maps(first: Sequence[nn.Module]) -> int:
    """Into how many values these modules make one."""
    return math.prod(len(module.thresholds) for module in first if isinstance(module, Thermometer))


class MLP(nn.Sequential):
    """Flatten, then Linear layers with the activation of that name between them: [B, ...] -> [B, classes].

    The modules ``first``, without parameters, see the input before all else.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], classes: int, unit: str, first: Sequence[nn.Module] = ()
    ) -> None:
        widths = [inputs * _maps(first), *hidden]
        layers: list[nn.Module] = [*first, nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation(unit)]
        super().__init__(*layers, nn.Linear(widths[-1], classes))


class ConvNet(nn.Module):
    """Convolutions with the activation after each, then a linear read-out: [B, C, H, W] -> [B, classes].

    An example's shape is [C, H, W]; the square kernels' side and their stride are in pixels; the rest is as for `MLP`.

    Raises:
        UserError: when the images are too small for that many convolutions.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        kernel: int,
        stride: int,
        classes: int,
        unit: str,
        first: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise UserError(f"model.kind = 'conv': needs images [C, H, W], the data has shape {list(shape)}; use 'mlp'")
        maps, height, width = shape
        maps *= _maps(first)
        layers: list[nn.Module] = list(first)
        for after in channels:
            layers += [nn.Conv2d(maps, after, kernel, stride), activation(unit)]
            maps, height, width = after, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if height < 1 or width < 1:
            raise UserError(
                f"model.kernel = {kernel}, model.stride = {stride}: {len(channels)} convolutions leave nothing of"
                f" {shape[1]}x{shape[2]} pixels; lower model.kernel, model.stride or the number of model.channels"
            )
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(maps * height * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]
