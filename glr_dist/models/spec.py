"""From a model's description to the model: what config files and checkpoints say about a network.

A checkpoint holds the description (`ModelConfig` as a dict) and the data's shape and classes, so that ``glr-dist evaluate``
can build the same network again. A user's own ``module:factory`` is imported only where the user asked for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from glr_dist.core.activations import ACTIVATIONS
from glr_dist.errors import UserError, nearest
from glr_dist.models.networks import MLP, ConvNet, InputThreshold, Standardize

KINDS = ("mlp", "conv", "factory")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
        kind: ``mlp``, ``conv`` or ``factory``.
        hidden: widths of an mlp's hidden layers.
        channels: maps of a conv net's convolutions.
        kernel: side of its kernels, in pixels.
        stride: their step, in pixels.
        activation: heaviside, sigmoid, relu or tanh.
        input_threshold: mlp and conv see a pixel as 1 where it is at least this, in (0, 1), else as 0; 0: as it is.
        input_mean: mlp and conv see (pixel - input_mean) / input_std, as with torchvision's Normalize.
        input_std: see input_mean.
        init_std: standard deviation of the initial weights (biases 0); 0 keeps PyTorch's initialisation.
        factory: ``module:function``, called as ``function(shape, classes)``, for kind ``factory``.
    """

    kind: str = "mlp"
    hidden: tuple[int, ...] = (50,)
    channels: tuple[int, ...] = (8, 16)
    kernel: int = 5
    stride: int = 2
    activation: str = "heaviside"
    input_threshold: float = 0.0
    input_mean: float = 0.0
    input_std: float = 1.0
    init_std: float = 0.0
    factory: str = ""

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.kind not in KINDS:
            raise UserError(f"model.kind = {self.kind!r}: unknown; {nearest(self.kind, KINDS)}")
        for field in ("hidden", "channels"):
            if any(width < 1 for width in getattr(self, field)):
                raise UserError(f"model.{field} = {list(getattr(self, field))}: every layer needs at least 1 unit")
        for field in ("kernel", "stride"):
            if getattr(self, field) < 1:
                raise UserError(f"model.{field} = {getattr(self, field)}: must be at least 1")
        if self.activation not in ACTIVATIONS:
            raise UserError(f"model.activation = {self.activation!r}: unknown; {nearest(self.activation, ACTIVATIONS)}")
        if not 0 <= self.input_threshold < 1:
            raise UserError(
                f"model.input_threshold = {self.input_threshold}: must be above 0 and below 1, as pixels are; 0: none"
            )
        if self.input_std <= 0:
            raise UserError(f"model.input_std = {self.input_std}: must be above 0")
        standardized = (self.input_mean, self.input_std) != (0.0, 1.0)
        if self.input_threshold and standardized:
            raise UserError(
                f"model.input_threshold = {self.input_threshold}: what it lets through is 0 or 1; leave model.input_mean and"
                " model.input_std out"
            )
        if self.kind == "factory" and (self.input_threshold or standardized):
            raise UserError(
                "model.input_threshold, model.input_mean, model.input_std: are for kinds mlp and conv; put InputThreshold or"
                " Standardize of glr_dist.models.networks into the network that your factory builds"
            )
        if self.init_std < 0:
            raise UserError(f"model.init_std = {self.init_std}: must be 0 or more")
        if self.kind == "factory" and ":" not in self.factory:
            raise UserError(f"model.factory = {self.factory!r}: write it as module:function")


def refuse_untrusted(kind: str, factory: str, place: str, trust_model: bool) -> None:
    """Refuse to import code because a file names it; the user's own command line may.

    Args:
        kind: the described model's kind.
        factory: the described ``module:function``.
        place: the run or checkpoint that describes it.
        trust_model: the user trusts it.

    Raises:
        UserError: for kind ``factory`` without trust.
    """
    if kind == "factory" and not trust_model:
        raise UserError(
            f"{place}: its model is built by {factory!r}, code that would be imported and run;"
            " give --trust-model if you trust it"
        )


def build_model(config: ModelConfig, shape: Sequence[int], classes: int, seed: int) -> nn.Module:
    """A new network with its initial parameters.

    Args:
        config: what to build.
        shape: the shape of one example.
        classes: outputs.
        seed: of the initial parameters; the same seed gives the same bits.

    Raises:
        UserError: when it can't be built for this data.
    """
    config.check()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inputs = int(torch.Size(shape).numel())
        if config.kind == "mlp":
            model: nn.Module = MLP(inputs, config.hidden, classes, config.activation, _first(config))
        elif config.kind == "conv":
            unit, kernel, stride = config.activation, config.kernel, config.stride
            model = ConvNet(shape, config.channels, kernel, stride, classes, unit, _first(config))
        else:
            model = _from_factory(config.factory, shape, classes)
        if config.init_std:
            _initialise(model, config.init_std)
    return model.eval()


def _first(config: ModelConfig) -> list[nn.Module]:
    """What sees the input before all else."""
    if config.input_threshold:
        return [InputThreshold(config.input_threshold)]
    if (config.input_mean, config.input_std) != (0.0, 1.0):
        return [Standardize(config.input_mean, config.input_std)]
    return []


def _from_factory(factory: str, shape: Sequence[int], classes: int) -> nn.Module:
    module, _, function = factory.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"model.factory = {factory!r}: {error}") from error
    model = build(tuple(shape), classes)
    if not isinstance(model, nn.Module):
        raise UserError(f"model.factory = {factory!r}: returned {type(model).__name__}, not a torch.nn.Module")
    return model


@torch.no_grad()
def _initialise(model: nn.Module, std: float) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.normal_(0.0, std)
            if module.bias is not None:
                module.bias.zero_()
