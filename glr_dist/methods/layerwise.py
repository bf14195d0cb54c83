"""Scheme ``layerwise``: one site noised at a time, so the clean pass gives every layer's input and pre-activation.

Shapes: S signs, P draws, R rows (examples), N a site's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig
from glr_dist.core.estimator import error_signal, pullback
from glr_dist.core.sites import Site
from glr_dist.core.units import UnitKind
from glr_dist.methods.method import Net, Observed, with_advantages


def layerwise_kinds(sites: Sequence[Site], estimator: EstimatorConfig) -> list[UnitKind]:
    """A kind for every site."""
    return [copies_kind(sites, index, estimator) for index in range(len(sites))]


def copies_kind(sites: Sequence[Site], index: int, estimator: EstimatorConfig) -> UnitKind:
    """Noisy copies of one site."""
    sizes, signs = [site.size for site in sites], estimator.signs
    return UnitKind(
        site=index, draws=estimator.copies // signs, signs=signs, values=sizes[index], widest=max(sizes[index:])
    )


def layerwise_gradient(net: Net, x: Tensor, units: Sequence[Observed]) -> list[Tensor]:
    """The likelihood-ratio gradient, summed over the block's rows x [R, ...]."""
    return site_by_site(net, x, units, copies_signal)


def site_by_site(
    net: Net, x: Tensor, units: Sequence[Observed], signal: Callable[[Net, int, Tensor, Sequence[Observed]], Tensor]
) -> list[Tensor]:
    """The pullback of every site's error signal through its layer, from one clean pass; each unit is of one site.

    ``signal``: (net, index of a site, its clean z [R, *N], its units) -> the error signal, of z's shape.
    """
    outputs = net.taps.clean(x)
    of_site: dict[int, list[Observed]] = {}
    for unit in units:
        of_site.setdefault(unit.kind.site, []).append(unit)
    with torch.no_grad():
        pairs = [
            (outputs[index], signal(net, index, outputs[index].detach(), observed))
            for index, observed in of_site.items()
        ]
    return pullback(pairs, net.parameters)


def copies_signal(net: Net, index: int, z: Tensor, units: Sequence[Observed]) -> Tensor:
    """A site's error signal from noisy copies, for its clean pre-activations z [R, *N]."""
    family, scale, estimator = net.noise.family, net.noise.scale, net.estimator
    condition = z if estimator.conditioning and net.sites[index].binary else None
    parts = [
        error_signal(family, scale, advantage, unit.noise()[index], condition, estimator.copies)
        for advantage, unit in with_advantages(units, estimator.baseline)
    ]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
