"""Losses, one value per example: ``loss(outputs [B, C], labels [B] or numbers [B, C]) -> float32 [B]``.

They need no derivative: the 0-1 loss is as good as cross-entropy. Ties in the 0-1 loss go to the lowest class, as
``argmax`` does. A loss whose attribute ``per`` is "batch", such as 1 less F1, returns one value for all examples of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from glr_dist.core.own_code import called, is_own, own
from glr_dist.errors import UserError, check_known

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the log-probability of the label under the softmax, in nats: [B]."""
    picked = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return logits.logsumexp(-1) - picked


def zero_one(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the class of the largest logit is not the label, else 0: [B]."""
    return (logits.argmax(-1) != labels).to(logits.dtype)


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean over an example's targets [B, C] of the squared difference: [B]."""
    return (outputs - targets).square().mean(-1)


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean over an example's targets [B, C] of the absolute difference: [B]."""
    return (outputs - targets).abs().mean(-1)


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Minus the log-probability of 0-1 targets [B, C] under the outputs' sigmoids, in nats, mean over the targets: [B]."""
    return binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(-1)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "zero-one": zero_one,
    "certified": cross_entropy,  # of minus the label's worst leads, which the engine has a network for
    "certified-zero-one": zero_one,
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "bce": binary_cross_entropy,
}


def per_batch(loss: Loss) -> bool:
    """Whether a loss returns one value for a whole batch; raises UserError for an attribute ``per`` that can't be."""
    per = getattr(loss, "per", "example")
    check_known("loss: its attribute per", per, ("example", "batch"))
    return bool(per == "batch")


def repeated(labels: Tensor, times: int) -> Tensor:
    """Labels [B] or numbers [B, C] for so many copies of the examples, one copy after the other."""
    return labels.repeat(times, *[1] * (labels.dim() - 1))


def named_loss(name: str, kept: Path | None = None) -> Loss:
    """The loss that a config names: one of these, or code of the user's own, of which a run may have kept a copy.

    Raises:
        UserError: for an unknown one, and as `glr_dist.core.own_code.own`.
    """
    if not is_own(name):
        check_known("loss", name, LOSSES)
        return LOSSES[name]
    found = own("loss", name, kept)
    if isinstance(found, type):
        found = called("loss", name, found, {})
    if not callable(found):
        raise UserError(f"loss = {name!r}: is of type {type(found).__name__}; name a function of outputs and labels")
    return found  # type: ignore[no-any-return]


def all_finite(values: Tensor) -> bool:
    """Whether all values are finite: told by their sum, which is quick, but for sums that overflow."""
    return math.isfinite(float(values.detach().sum())) or bool(torch.isfinite(values).all())


def check_losses(losses: Tensor, shape: tuple[int, ...], where: str) -> None:
    """Refuse what a user's loss (or a model gone astray) must not return; ``where`` is the step and unit, for the message.

    Raises:
        UserError: for a shape other than [copies, rows] as given, or a value that is not finite.
    """
    if tuple(losses.shape) != shape:
        per_example = tuple(losses.shape[1:])
        whole = "; one that is for the whole batch has an attribute per = 'batch'" if not per_example else ""
        raise UserError(
            f"loss: {where} returned shape {per_example} for {shape[1]} examples; a loss must return one value"
            f" per example, shape ({shape[1]},){whole}"
        )
    if not all_finite(losses):
        bad = losses[~torch.isfinite(losses)].flatten()[0].item()
        raise UserError(f"loss: {where} returned {bad}; losses must be finite (lower optimizer.lr, or mend the loss)")
