"""Scheme ``layerwise``: one site noised at a time, so the clean pass gives every layer's input and pre-activation.

Shapes: S signs, P draws, R rows (examples), N a site's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig
from glr_dist.core.estimator import error_signal, pullback
from glr_dist.core.sites import Site, tapped
from glr_dist.core.units import UnitKind
from glr_dist.methods.method import Net, Observed, with_advantages


def layerwise_kinds(sites: Sequence[Site], estimator: EstimatorConfig) -> list[UnitKind]:
    """A kind for every site."""
    signs, sizes = estimator.signs, [site.size for site in sites]
    return [
        UnitKind(
            site=index, draws=estimator.copies // signs, signs=signs, values=sizes[index], widest=max(sizes[index:])
        )
        for index in range(len(sites))
    ]


def layerwise_gradient(net: Net, x: Tensor, units: Sequence[Observed]) -> list[Tensor]:
    """The likelihood-ratio gradient, summed over the block's rows.

    Args:
        net: at the parameters that the losses were observed at.
        x: the block's inputs [R, ...].
        units: each of one site.
    """
    outputs: dict[int, Tensor] = {}

    def keep(index: int, z: Tensor) -> Tensor:
        outputs[index] = z
        return z.detach().clone()  # what follows may work in place

    with tapped(net.model, net.sites, keep, detach=True):
        net.model(x)
    of_site: dict[int, list[Observed]] = {}
    for unit in units:
        of_site.setdefault(unit.kind.site, []).append(unit)
    family, scale, estimator = net.noise.family, net.noise.scale, net.estimator
    pairs = []
    with torch.no_grad():
        for index, observed in of_site.items():
            z = outputs[index].detach() if estimator.conditioning and net.sites[index].binary else None
            parts = [
                error_signal(family, scale, advantage, unit.noise()[index], z, estimator.copies)
                for advantage, unit in with_advantages(observed, estimator.baseline)
            ]
            pairs.append((outputs[index], torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]))
    return pullback(pairs, net.parameters)
