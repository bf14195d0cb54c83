"""Noise sites: where noise enters a network, and how every forward pass is tapped there.

A site is one call of one parametric leaf module (a module that owns parameters and has no children) in the forward pass:
a module called twice makes two sites that share parameters, so shared weights get the sum of both gradients. They are
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

    @property
    def size(self) -> int:
        """Pre-activations per example."""
        return int(torch.Size(self.shape).numel())


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

    def hook_for(name: str) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            call = calls.get(name, 0)
            calls[name] = call + 1
            if call == per_pass[name]:
                _refuse_calls(name, "more", call)
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
