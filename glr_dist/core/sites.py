"""Noise sites: where noise enters a network, and how every forward pass is tapped there.

A site is one call of one parametric layer in the forward pass: a module that owns parameters and has no children, or an
attention (`layers`). A module called twice makes two sites that share parameters, so shared weights get the sum of both
gradients. Of a layer that returns several tensors (recurrent ones, attention) the first is the site's output. They are
found by `glr_dist.core.probing` and reached through forward hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glr_dist.errors import UserError

OnOutput = Callable[[int, Tensor], Tensor | None]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One noise site."""

    module: str  # its name in the model ("" for the model itself)
    call: int  # which of the module's calls in one forward pass this is, from 0
    shape: tuple[int, ...]  # of the output for one example
    binary: bool  # whether Heaviside units are all that ever reads the output
    reader: int | None = (
        None  # index of the site of the affine layer that alone reads these units' bits, if there is one
    )
    logits: bool = False  # whether its output is what the network returns
    several: bool = False  # whether its output is the first of several that the layer returns

    @property
    def size(self) -> int:
        """Pre-activations per example."""
        return int(torch.Size(self.shape).numel())


_WHOLE = (nn.MultiheadAttention,)  # layers with layers in them that they never call as such


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The parametric layers of a model, by name."""
    found: dict[str, nn.Module] = {}
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, _WHOLE):
            inside |= {id(part) for part in module.modules()} - {id(module)}
        elif id(module) in inside or list(module.children()) or not list(module.parameters(recurse=False)):
            continue
        found[name] = module
    return found


def plain_attention(model: nn.Module) -> None:
    """Have attention computed alike with and without derivatives: torch's shortcut knows no copies, and rounds otherwise."""
    if any(isinstance(module, _WHOLE) for module in model.modules()):
        torch.backends.mha.set_fastpath_enabled(False)


def own_parameters(layer: nn.Module) -> Iterator[nn.Parameter]:
    """A layer's parameters."""
    return layer.parameters(recurse=isinstance(layer, _WHOLE))


def output_of(returned: Any) -> Any:
    """What is the site's output of what a layer returns."""
    return returned[0] if isinstance(returned, tuple) and returned else returned


@contextmanager
def tapped(model: nn.Module, sites: Sequence[Site], on_output: OnOutput, *, detach: bool = False) -> Iterator[None]:
    """Within: every forward pass calls ``on_output(site index, output)`` at each site and goes on with what it returns.

    That is a tensor, or None for the output itself. With ``detach`` the sites' inputs are cut off the autograd graph, so
    that each site's output depends on its own parameters alone: the pullback's "input detached".

    Raises:
        UserError: in a forward pass that calls a layer more or less often than the probing one did.
    """
    index = {(site.module, site.call): i for i, site in enumerate(sites)}
    per_pass: dict[str, int] = {}  # a Counter takes longer to make than a small pass has to spare
    for site in sites:
        per_pass[site.module] = per_pass.get(site.module, 0) + 1
    calls: dict[str, int] = {}

    def start(module: nn.Module, args: Any) -> None:
        calls.clear()

    def hook_for(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            call = calls.get(name, 0)
            calls[name] = call + 1
            if call == per_pass[name]:
                _refuse_calls(name, "more", call)
            if isinstance(output, tuple):
                changed = on_output(index[name, call], output[0])
                return None if changed is None else (changed, *output[1:])
            return on_output(index[name, call], output)

        return hook

    def finish(module: nn.Module, args: Any, output: Any) -> None:
        for name, expected in per_pass.items():
            if calls.get(name, 0) < expected:
                _refuse_calls(name, "less", expected)

    def cut(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return _detached(args), _detached(kwargs)

    modules = dict(model.named_modules())
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(start).remove)
        for name in per_pass:
            if detach:
                stack.callback(modules[name].register_forward_pre_hook(cut, with_kwargs=True).remove)
            stack.callback(modules[name].register_forward_hook(hook_for(name)).remove)
        stack.callback(model.register_forward_hook(finish).remove)
        yield


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) in (tuple, list):
        return type(value)(_detached(item) for item in value)
    if type(value) is dict:
        return {key: _detached(item) for key, item in value.items()}
    return value


def _refuse_calls(name: str, how: str, expected: int) -> None:
    raise UserError(
        f"model: a forward pass calls layer {name!r} {how} often than the first one, which called it {expected}"
        f" time{'s' * (expected > 1)}; the number of calls must not depend on the data"
    )
