"""Method ``es``: evolution strategies, noise on the weights and every example's loss of every member.

Salimans, Ho, Chen, Sidor and Sutskever, 2017, "Evolution strategies as a scalable alternative to reinforcement learning".

Shapes: S signs, P draws (members), R rows (examples), D trained parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig
from glr_dist.core.noise import score
from glr_dist.core.parameters import shaped
from glr_dist.core.passes import SiteNoise, copy_losses, perturbed_logits
from glr_dist.core.sites import Site
from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.methods.method import Gradient, Method, Net, Observed, register, signed_losses, with_advantages


class Evolution(Method):
    """Evolution strategies."""

    name = "es"
    observes = True
    noises = "weights"

    def kinds(self, sites: Sequence[Site], parameters: int, estimator: EstimatorConfig) -> list[UnitKind]:
        """One kind, whose draws a block's examples share."""
        signs, widest = estimator.signs, max(site.size for site in sites)
        draws = estimator.copies // signs
        return [UnitKind(site=ALL_SITES, draws=draws, signs=signs, values=parameters, shared=True, widest=widest)]

    def losses(self, net: Net, kind: UnitKind, noise: SiteNoise, x: Tensor, labels: Tensor, where: str) -> Tensor:
        """Of networks with other weights, [K, R]."""
        names = list(net.trained)

        def evaluate(sign: float) -> Tensor:
            logits = perturbed_logits(net.model, noise[ALL_SITES], sign * net.noise.scale, names, x)
            return copy_losses(net.loss, logits, labels)

        return signed_losses(kind, noise, len(x), where, evaluate)

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        """The members' noise, weighted by their losses."""
        parameters, scale, copies = net.parameters, net.noise.scale, net.estimator.copies
        total = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        for advantage, unit in with_advantages(units, net.estimator.baseline):
            member = advantage.sum(-1)  # [S, P], summed over the block's rows
            weight = member[0] - member[1] if member.shape[0] == 2 else member[0]
            total += weight @ score(net.noise.family, unit.noise()[ALL_SITES]) / (scale * copies)
        return Gradient(shaped(total, parameters))


register(Evolution())
