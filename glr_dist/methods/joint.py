"""Scheme ``joint``: all sites noised at once, one loss for all; the noisy passes are replayed, as inputs differ by copy.

Shapes: S signs, P draws, R rows (examples), N a site's outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig
from glr_dist.core.estimator import copy_scores, error_signal, pullback
from glr_dist.core.passes import SiteNoise, each_copy, noisy_pass
from glr_dist.core.sites import Site
from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.methods.method import Net, Observed, with_advantages


def joint_kinds(sites: Sequence[Site], estimator: EstimatorConfig) -> list[UnitKind]:
    """One kind for all sites."""
    signs, sizes = estimator.signs, [site.size for site in sites]
    draws = estimator.copies // signs
    return [UnitKind(site=ALL_SITES, draws=draws, signs=signs, values=sum(sizes), widest=max(sizes))]


def joint_gradient(net: Net, x: Tensor, units: Sequence[Observed]) -> list[Tensor]:
    """The likelihood-ratio gradient, summed over the block's rows x [R, ...]; each unit is of all sites."""
    total = [torch.zeros_like(p) for p in net.parameters]
    for advantage, unit in with_advantages(units, net.estimator.baseline):
        eps = unit.noise()
        for number in range(len(advantage)):
            pairs = joint_signals(net, x, eps, advantage, number)
            if pairs:
                for sum_, part in zip(total, pullback(pairs, net.parameters), strict=True):
                    sum_ += part
    return total


def joint_signals(
    net: Net, x: Tensor, eps: SiteNoise, advantage: Tensor, number: int, among: Collection[int] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """The sites' pre-activations under the noise of one sign, with their error signals; ``among``: of these sites alone.

    For advantages [S, P, R]. The first site's error signal takes both signs at once and comes with the first.
    """
    family, scale, estimator, sites = net.noise.family, net.noise.scale, net.estimator, net.sites
    sign = (1.0, -1.0)[number]
    first = min(eps)  # no noise reaches its input: one z for all copies of an example
    outputs = site_outputs(net, eps, sign * scale, x)
    z_first = outputs.pop(first)
    pairs = []
    with torch.no_grad():
        if number == 0 and (among is None or first in among):
            condition = z_first.detach() if estimator.conditioning and sites[first].binary else None
            pairs.append((z_first, error_signal(family, scale, advantage, eps[first], condition, estimator.copies)))
        for index, z in outputs.items():
            if among is not None and index not in among:
                continue
            condition = z.detach() if estimator.conditioning and sites[index].binary else None
            scores = copy_scores(family, scale, eps[index], condition, sign)
            weight = advantage[number].view(*advantage[number].shape, *(1,) * (scores.dim() - 2))
            pairs.append((z, scores * weight / estimator.copies))
    return pairs


def site_outputs(net: Net, eps: SiteNoise, scale: float, x: Tensor) -> dict[int, Tensor]:
    """The noised sites' pre-activations, each a function of its own layer's parameters alone.

    Returns:
        {site: [P, R, *N]}, but [R, *N] for the first site, where all copies of an example agree.
    """
    first = min(eps)
    if net.fold:
        seen: dict[int, Tensor] = {first: net.taps.clean(x)[first]}

        def add(index: int, z: Tensor, noise: Tensor) -> Tensor:
            seen.setdefault(index, z.expand(noise.shape))
            return torch.add(z.detach(), noise, alpha=scale)

        noisy_pass(net.taps, eps, add, x, fold=True, detach=True, from_clean=True)
        return seen
    order = sorted(eps)

    def one_copy(*noise: Tensor) -> tuple[Tensor, ...]:
        kept: dict[int, Tensor] = {}

        def keep(index: int, z: Tensor) -> Tensor:
            kept[index] = z
            return torch.add(z.detach(), noise[order.index(index)], alpha=scale)

        net.taps.run(x, keep, detach=True)
        return tuple(kept[i] for i in order)

    outputs = dict(zip(order, each_copy(one_copy, *(eps[i] for i in order)), strict=True))
    return {**outputs, first: outputs[first][0]}
