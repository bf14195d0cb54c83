"""From a model's description to the model: what config files and checkpoints say about a network.

A checkpoint holds the description (`ModelConfig` as a dict) and the data's shape and classes, so that ``glr-dist evaluate``
can build the same network again. A user's own ``module:factory`` is imported only where the user asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from glr_dist.core.ambient import usual_torch
from glr_dist.core.own_code import called, own
from glr_dist.errors import UserError, first_line
from glr_dist.models.config import ModelConfig
from glr_dist.models.networks import MLP, ConvNet, InputThreshold, Standardize, Thermometer

_FACTORY = "model.factory (--model)"


def build_model(
    config: ModelConfig, shape: Sequence[int], classes: int, seed: int, kept: Path | None = None
) -> nn.Module:
    """A new network for examples of that shape, with its initial parameters: the same seed gives the same bits.

    ``kept``: the folder of a run's copy of the code that builds it.

    Raises:
        UserError: when it can't be built for this data.
    """
    config.check()
    with torch.random.fork_rng(devices=[]), usual_torch():
        torch.manual_seed(seed)
        inputs = int(torch.Size(shape).numel())
        try:
            if config.kind == "mlp":
                model: nn.Module = MLP(inputs, config.hidden, classes, config.activation, _first(config))
            elif config.kind == "conv":
                sizes = (config.channels, config.kernel, config.stride)
                model = ConvNet(shape, *sizes, classes, config.activation, _first(config))
            else:
                model = _from_factory(config.factory, shape, classes, kept)
        except (RuntimeError, MemoryError, TypeError) as error:  # more than torch can allocate, or count
            raise UserError(f"model: can't be built as the config says: {first_line(error)}") from error
        if config.init_std:
            _initialise(model, config.init_std)
    return model.eval()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], place: str) -> None:
    """Copy a checkpoint's weights (a state_dict, from ``place``) into a model.

    Raises:
        UserError: when they are another model's, naming the first tensor that differs, or not finite.
    """
    refuse_other_weights(model, weights, place)
    model.load_state_dict(dict(weights))
    refuse_not_finite(model, place)


def refuse_other_weights(model: nn.Module, weights: Mapping[str, Tensor], place: str) -> None:
    """Raise UserError for weights, from ``place``, that are another model's; names the first tensor that differs."""
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{place}: is a checkpoint of another model: {name} has shape {found.get(name)} there,"
                f" {expected.get(name)} here"
            )


def refuse_not_finite(model: nn.Module, what: str) -> None:
    """Refuse a network with a value that is no number: Heaviside units make a class of anything, and hide it.

    Raises:
        UserError: naming the first parameter that holds NaN or infinity, or buffer that holds NaN (a mask may be infinite).
    """
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, values in tensors:
            wrong = ~torch.isfinite(values) if kind == "parameter" else torch.isnan(values)
            if count := int(wrong.sum()):
                raise UserError(
                    f"{what}: {kind} {name!r} is not finite ({count} of {values.numel()} values are NaN or infinite); use"
                    " weights from before they diverged"
                )


def _first(config: ModelConfig) -> list[nn.Module]:
    """What sees the input before all else."""
    if config.input_threshold:
        return [InputThreshold(config.input_threshold)]
    if config.input_thresholds:
        return [Thermometer(config.input_thresholds)]
    if (config.input_mean, config.input_std) != (0.0, 1.0):
        return [Standardize(config.input_mean, config.input_std)]
    return []


def _from_factory(factory: str, shape: Sequence[int], classes: int, kept: Path | None) -> nn.Module:
    build = own(_FACTORY, factory, kept)
    model = called(_FACTORY, factory, build, {"shape": tuple(shape), "classes": classes})
    if not isinstance(model, nn.Module):
        raise UserError(f"{_FACTORY} = {factory!r}: returned {type(model).__name__}, not a torch.nn.Module")
    return model


@torch.no_grad()
def _initialise(model: nn.Module, std: float) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.normal_(0.0, std)
            if module.bias is not None:
                module.bias.zero_()
