"""The controls, which need derivatives: autograd through the clean pass, through the same noise, or straight through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from glr_dist.core.activations import straight_through
from glr_dist.core.config import EstimatorConfig
from glr_dist.core.losses import check_losses, zero_one
from glr_dist.core.passes import copy_losses, noisy_logits
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
        losses = net.loss(net.model(x), labels)
        check_losses(losses.unsqueeze(0), (1, len(x)), where)
        total = losses.sum()
        return Gradient(net.autograd(total), total.item())

    def refuse(self, net: Net, classes: int) -> None:
        """Refuse what has no derivative, instead of training half of it."""
        _refuse_loss_without_gradient(self.name, net, classes)
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

    def refuse(self, net: Net, classes: int) -> None:
        """Refuse a loss that has no derivative."""
        _refuse_loss_without_gradient(self.name, net, classes)


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
                check_losses(losses, (len(logits), len(x)), where)
                mean = losses.sum() / net.estimator.copies
                loss += mean.item()
                for sum_, part in zip(total, net.autograd(mean), strict=True):
                    sum_ += part
        return Gradient(total, loss)


def _refuse_loss_without_gradient(method: str, net: Net, classes: int) -> None:
    if net.loss is zero_one:
        raise UserError(f"method = {method!r}: the 0-1 loss has no gradient; use --set loss=cross-entropy")
    probe = net.loss(torch.zeros((2, classes), requires_grad=True), torch.zeros(2, dtype=torch.int64))
    if not isinstance(probe, Tensor) or tuple(probe.shape) != (2,):
        found = tuple(probe.shape) if isinstance(probe, Tensor) else type(probe).__name__
        raise UserError(f"loss: returned {found} for 2 examples; a loss must return one value per example, shape (2,)")
    if not probe.requires_grad:
        raise UserError(f"method = {method!r}: the loss has no gradient; use --method glr or es")


for method in (Backprop(), NoisyBackprop(), StraightThrough()):
    register(method)
