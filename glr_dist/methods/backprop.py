"""The controls, which need derivatives: autograd through the clean pass, through the same noise, or straight through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from glr_dist.core.activations import straight_through
from glr_dist.core.config import EstimatorConfig
from glr_dist.core.losses import check_losses, per_batch, zero_one
from glr_dist.core.passes import copy_losses, noisy_logits, whole_loss
from glr_dist.core.sites import Site
from glr_dist.core.units import UnitKind
from glr_dist.errors import UserError
from glr_dist.methods.joint import joint_kinds
from glr_dist.methods.method import Gradient, Method, Net, Noised, Observed, register


class Backprop(Method):
    """Autograd through the clean pass; 0 for what lies before a Heaviside unit."""

    name = "bp"
    observes = False
    noises: ClassVar[Noised] = "nothing"

    def kinds(self, sites: Sequence[Site], parameters: int, estimator: EstimatorConfig) -> list[UnitKind]:
        """None."""
        return []

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        """The derivative of the summed loss."""
        if per_batch(net.loss):  # all of it is each row's
            losses = whole_loss(net.loss, net.model(x), labels).expand(len(x))
        else:
            losses = net.loss(net.model(x), labels)
        check_losses(losses.unsqueeze(0), (1, len(x)), where)
        total = losses.sum()
        return Gradient(net.autograd(total), total.item())

    def refuse(self, net: Net, x: Tensor, labels: Tensor) -> None:
        """Refuse what has no derivative, instead of training half of it."""
        _refuse_loss_without_gradient(self.name, net, x, labels)
        if any(site.binary for site in net.sites):
            raise UserError(
                f"method = {self.name!r}: Heaviside units have no gradient; use --set model.activation=relu,"
                " or --method straight-through"
            )


class StraightThrough(Backprop):
    """Autograd with a derivative for Heaviside units that they have not (`glr_dist.core.activations.straight_through`)."""

    name = "straight-through"

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        """The derivative of the summed loss, with a hard sigmoid's in the place of the step's."""
        with straight_through():
            return super().gradient(net, x, labels, units, where)

    def refuse(self, net: Net, x: Tensor, labels: Tensor) -> None:
        """Refuse a loss that has no derivative."""
        _refuse_loss_without_gradient(self.name, net, x, labels)


class NoisyBackprop(Backprop):
    """Autograd through noisy passes, the mean over the copies: the control with the same noise."""

    name = "bp-noise"
    noises = "neurons"

    def kinds(self, sites: Sequence[Site], parameters: int, estimator: EstimatorConfig) -> list[UnitKind]:
        """One kind for all sites: the noise that autograd goes through."""
        return joint_kinds(sites, estimator)

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        """The derivative of the summed loss, mean over the copies."""
        total, loss = [torch.zeros_like(p) for p in net.parameters], 0.0
        for unit in units:
            eps = unit.noise()
            for sign in (1.0, -1.0)[: unit.kind.signs]:
                logits = noisy_logits(net.taps, eps, sign * net.noise.scale, x, fold=net.fold)
                losses = copy_losses(net.loss, logits, labels)
                check_losses(losses, (len(logits), 1 if per_batch(net.loss) else len(x)), where)
                mean = losses.expand(-1, len(x)).sum() / net.estimator.copies
                loss += mean.item()
                for sum_, part in zip(total, net.autograd(mean), strict=True):
                    sum_ += part
        return Gradient(total, loss)


def _refuse_loss_without_gradient(method: str, net: Net, x: Tensor, labels: Tensor) -> None:
    if net.loss is zero_one:
        raise UserError(f"method = {method!r}: the 0-1 loss has no gradient; use --set loss=cross-entropy")
    with torch.no_grad():
        outputs = net.model(x[:2].clone())
    probe = net.loss(torch.zeros_like(outputs, requires_grad=True), labels[:2])
    if not isinstance(probe, Tensor) or (tuple(probe.shape) != (2,) and not per_batch(net.loss)):
        found = tuple(probe.shape) if isinstance(probe, Tensor) else type(probe).__name__
        raise UserError(f"loss: returned {found} for 2 examples; a loss must return one value per example, shape (2,)")
    if not probe.requires_grad:
        raise UserError(f"method = {method!r}: the loss has no gradient; use --method glr or es")


for method in (Backprop(), NoisyBackprop(), StraightThrough()):
    register(method)
