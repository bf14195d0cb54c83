"""From a model's description to the model: what config files and checkpoints say about a network.

A checkpoint holds the description (`ModelConfig` as a dict) and the data's shape and classes, so that ``glr-dist evaluate``
can build the same network again. A user's own ``module:factory`` is imported only where the user asked for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
from torch import nn

from glr_dist.errors import UserError
from glr_dist.models.config import ModelConfig
from glr_dist.models.networks import MLP, ConvNet, InputThreshold, Standardize


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
