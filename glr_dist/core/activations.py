"""Units: the Heaviside step, and the straight-through derivative that the control method gives it.

`heaviside` announces itself to ``torch.overrides`` modes, so that `glr_dist.core.sites` can see that a site's output is
read by a Heaviside unit and by nothing else, which is what conditioning on the bit needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from glr_dist.errors import UserError, nearest

_straight_through: ContextVar[bool] = ContextVar("straight_through", default=False)


class _Step(torch.autograd.Function):
    """The step by one in-place comparison that writes floats: a quarter of the time of ``(x >= 0).to(x.dtype)``."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone().ge_(0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> tuple[Tensor, Any]:
        return x.clone().ge_(0.0), in_dims[0]


def heaviside(x: Tensor) -> Tensor:
    """1 where ``x >= 0``, else 0, in x's dtype. It has no derivative, but inside `straight_through`."""
    if has_torch_function_unary(x):
        return handle_torch_function(heaviside, (x,), x)
    step: Tensor = _Step.apply(x)
    if not _straight_through.get():
        return step
    slope = x.clamp(-1.0, 1.0) * 0.5
    return slope + (step - slope).detach()


@contextmanager
def straight_through() -> Iterator[None]:
    """Within: `heaviside` has the derivative 1/2 where ``|x| <= 1``, that of a hard sigmoid (Bengio et al., 2013)."""
    token = _straight_through.set(True)
    try:
        yield
    finally:
        _straight_through.reset(token)


class Heaviside(nn.Module):
    """The step function as a module: 1 where the input is >= 0, else 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return heaviside(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "heaviside": Heaviside,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """A new activation module by its name.

    Raises:
        UserError: for an unknown name.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"model.activation = {name!r}: unknown; {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()
