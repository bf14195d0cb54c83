"""Units: the Heaviside step, and the derivatives that the control method and the white-box attacks lend it.

`heaviside` announces itself to ``torch.overrides`` modes, so that `glr_dist.core.probing` can see that a site's output is
read by a Heaviside unit and by nothing else, which is what conditioning on the bit needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # torch has no public way to ask
from torch.overrides import handle_torch_function, has_torch_function_unary

from glr_dist.errors import check_known

# the function whose derivative stands in for the step's, if any
_stand_in: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("stand_in", default=None)


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
    """1 where ``x >= 0``, else 0, in x's dtype. No derivative but inside `straight_through` and `sigmoid_derivative`."""
    if has_torch_function_unary(x):
        return handle_torch_function(heaviside, (x,), x)
    stand_in = _stand_in.get()
    if stand_in is None:
        if not is_functorch_wrapped_tensor(x):
            return x.detach().clone().ge_(0.0)  # as `_Step`, without the price of a Function's call
        step: Tensor = _Step.apply(x)
        return step
    smooth = stand_in(x)
    return x.detach().ge(0.0).to(x.dtype) + (smooth - smooth.detach())  # the bracket is exactly 0: the step's own bits


def _sigmoid(x: Tensor) -> Tensor:
    """Sigmoid less 1 where x >= 0: the same derivative, which then doesn't round to 0 from x = 17 up."""
    return torch.where(x >= 0, -torch.sigmoid(-x), torch.sigmoid(x))


@contextmanager
def _lent(stand_in: Callable[[Tensor], Tensor]) -> Iterator[None]:
    token = _stand_in.set(stand_in)
    try:
        yield
    finally:
        _stand_in.reset(token)


def straight_through() -> AbstractContextManager[None]:
    """Within: `heaviside` has the derivative 1/2 where ``|x| <= 1``, that of a hard sigmoid (Bengio et al., 2013)."""
    return _lent(lambda x: x.clamp(-1.0, 1.0) * 0.5)


def sigmoid_derivative(slope: float) -> AbstractContextManager[None]:
    """Within: `heaviside` has the derivative of ``sigmoid(slope * x)``: slope * s * (1 - s) (BPDA; Athalye et al., 2018).

    The larger the slope, which is above 0, the nearer the sigmoid is to the step.
    """
    return _lent(lambda x: _sigmoid(slope * x))


class Heaviside(nn.Module):
    """The step function as a module: 1 where the input is >= 0, else 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return heaviside(x)


ACTIVATIONS = {"heaviside": Heaviside, "sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def activation(name: str) -> nn.Module:
    """A new activation module by its name; raises UserError for an unknown one."""
    check_known("model.activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
