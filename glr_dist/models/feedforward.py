"""A network as the row of layers that its forward pass calls, each of a kind whose every step is known.

What reasons about a network from the outside, such as interval bounds or an export, must not be mistaken about what it
computes: a layer of a class of its own, with a hook or a forward of its own is refused by name, not guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from glr_dist.core.activations import Heaviside
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP, ConvNet, InputThreshold, Standardize, Thermometer
from glr_dist.models.spec import refuse_not_finite

_SEQUENCES = (nn.Sequential, MLP)
_KNOWN = (
    nn.Linear,
    nn.Conv2d,
    nn.AvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.ReLU,
    Heaviside,
    InputThreshold,
    Thermometer,
    Standardize,
)


def feedforward(model: nn.Module, what: str) -> list[tuple[str, nn.Module]]:
    """The layers of a network with their names, in the order of its forward pass; the last is a Linear one.

    Args:
        model: the network.
        what: who asks, for messages.

    Raises:
        UserError: naming the first layer that is not known, or that is not as PyTorch made it; for parameters that are not
            finite float32.
    """
    refuse_not_finite(model, what)
    found = [(name, layer) for name, layer in _layers("", model, what) if not isinstance(layer, nn.Identity)]
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise UserError(f"{what}: parameter {name!r} is {parameter.dtype}; needs a float32 network")
    if not found or not isinstance(found[-1][1], nn.Linear):
        last = _told(*found[-1]) if found else "nothing"
        raise UserError(f"{what}: the network's last layer must be Linear, it is {last}; use --attack bpda-pgd")
    return found


def _layers(name: str, module: nn.Module, what: str) -> Iterator[tuple[str, nn.Module]]:
    hooked = module._forward_hooks or module._forward_pre_hooks
    if hooked or "forward" in vars(module):
        raise UserError(
            f"{what}: {_told(name, module)} has a hook or a forward of its own, so what it computes is unknown"
        )
    if type(module) in _SEQUENCES:
        for inner, part in module._modules.items():  # named_children leaves out what stands there twice
            assert part is not None
            yield from _layers(_joined(name, inner), part, what)
    elif isinstance(module, ConvNet) and type(module) is ConvNet:
        yield from _layers(_joined(name, "features"), module.features, what)
        yield _joined(name, "flatten"), nn.Flatten()
        yield from _layers(_joined(name, "classifier"), module.classifier, what)
    elif type(module) in _KNOWN:
        _refuse_unusual(name, module, what)
        yield name, module
    else:
        raise UserError(
            f"{what}: knows nothing of {_told(name, module)}; it takes rows of Linear, Conv2d, AvgPool2d, Flatten,"
            " Heaviside, ReLU, InputThreshold, Thermometer and Standardize; use --attack bpda-pgd"
        )


def _refuse_unusual(name: str, module: nn.Module, what: str) -> None:
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        raise UserError(f"{what}: {_told(name, module)} pads by {module.padding_mode!r}; only zeros are known")
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        raise UserError(f"{what}: {_told(name, module)} keeps some axes; only Flatten() is known")
    if isinstance(module, nn.AvgPool2d) and module.divisor_override is not None:
        raise UserError(f"{what}: {_told(name, module)} has a divisor of its own; leave divisor_override out")
    if isinstance(module, Standardize) and not module.std > 0:
        raise UserError(f"{what}: {_told(name, module)} divides by {module.std}; must be above 0")


def _joined(name: str, inner: str) -> str:
    return f"{name}.{inner}" if name else inner


def _told(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else f"the network ({type(module).__name__})"
