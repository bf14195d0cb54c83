"""The gradient of the loss with respect to the input: taken without leaving a trace, refused where there is none.

    g = d/dx sum_b cross-entropy(logits(x)_b, label_b)

The sum and not the mean: a sample's gradient must not depend on how many others are in its batch. A threshold network has
no gradient: what follows one there would stand still at the clean samples and be taken for robustness.

Shapes: B samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glr_dist.errors import UserError

_NO_GRADIENT = (
    "the network has no gradient with respect to its input (threshold units, torch.sign, round or the like): use a"
    " surrogate that has one (`evaluate`: --surrogate CHECKPOINT; `attack`: as SURROGATE), or a white-box attack with a"
    " stand-in derivative (--attack bpda-pgd)"
)


class NoGradientError(UserError):
    """A network without a gradient, or one that is saturated at every one of some samples."""


def input_gradient(logits: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the summed cross-entropy with respect to ``x``: [B, ...]; of saturated samples it may be zero.

    Args:
        logits: the network, any callable [B, ...] -> [B, C]; a module is run in evaluation mode. Its parameters, their
            gradients and its training flags stay as they are.
        x: [B, ...].
        labels: int64 [B].

    Raises:
        NoGradientError: when the network has no gradient: its output doesn't depend on ``x`` differentiably, or the
            derivative of every output is zero for every sample.
    """
    gradient, _ = gradient_and_logits(logits, x, labels)
    if not gradient.count_nonzero() and not _any_derivative(logits, x):
        raise NoGradientError(_NO_GRADIENT)
    return gradient


def gradient_and_logits(logits: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As `input_gradient`, but a gradient of zeros is returned and not refused; with the logits [B, C], detached."""
    leaf, outputs = _forward(logits, x)
    with torch.enable_grad():
        loss = cross_entropy(outputs, labels, reduction="sum")
    return _derivative(loss, leaf), outputs.detach()


def without_gradient(gradient: Tensor) -> Tensor:
    """Which samples' gradient leads nowhere, all zero or not finite: bool [B] for a gradient [B, ...]."""
    rows = gradient.flatten(1)
    return ~rows.isfinite().all(1) | ~(rows != 0).any(1)


@contextmanager
def evaluating(network: object) -> Iterator[None]:
    """Within: a module is in evaluation mode; afterwards each submodule has its own flag again. Others are left alone."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    training = [module for module in modules if module.training]  # mostly none: writing to a module takes long
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _forward(logits: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad(), evaluating(logits):
        leaf = x.detach().clone().requires_grad_()
        return leaf, logits(leaf)


def _derivative(output: Tensor, leaf: Tensor) -> Tensor:
    gradient = torch.autograd.grad(output, leaf, allow_unused=True)[0] if output.requires_grad else None
    if gradient is None:
        raise NoGradientError(_NO_GRADIENT)
    return gradient


def _any_derivative(logits: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether anything but zero comes back for random cotangents: tells a saturated loss from a network without slope."""
    leaf, outputs = _forward(logits, x)
    cotangent = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs) + 0.5
    with torch.enable_grad():
        return bool(_derivative((outputs * cotangent).sum(), leaf).any())
