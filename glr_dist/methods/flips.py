"""Scheme ``flips``: a Heaviside unit's bit is not sampled, both of its cases are evaluated and weighed exactly.

For a site that Heaviside units alone read, with bits ``h_j = [z_j + s eps_j >= 0]`` and J(z) = E[L]:

    dJ/dz_j = f(z_j/s)/s * E over the others' bits [ L(h_j = 1) - L(h_j = 0) ]

estimated by M base draws, of each one pass as drawn and one for every turned bit (local expectation gradients: Titsias
and Lazaro-Gredilla, 2015; reparameterization and marginalization: Tokui and Sato, 2017). What an evaluator sends is the
difference L(1) - L(0), whose sign hangs on nobody's bits but its own, so a reconstructor needs its clean z and draws no
noise. Sites that something else reads keep noisy copies. In ``joint-flips`` the base draw noises every site, and the
flips keep all of that noise; then the reconstructor replays the base draws, since z differs by draw.

Of a site with many units, flips may be drawn: by weights w near f, systematically, ``E[times j is drawn] = F w_j / sum w``.
Which ones were drawn comes home with the differences, so nothing hangs on the last bit of z.

Shapes: S signs, M base draws, F flips, R rows (examples), N a site's outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig
from glr_dist.core.estimator import pullback
from glr_dist.core.noise import density
from glr_dist.core.passes import PICKS, SiteNoise
from glr_dist.core.sites import Site
from glr_dist.core.units import FlipKind, UnitKind
from glr_dist.errors import UserError
from glr_dist.methods.joint import joint_kinds, joint_signals, site_outputs
from glr_dist.methods.layerwise import copies_kind, copies_signal, site_by_site
from glr_dist.methods.method import Net, Observed, with_advantages
from glr_dist.methods.turning import drawing_weights, turned_losses


def flips_kinds(sites: Sequence[Site], estimator: EstimatorConfig) -> list[UnitKind]:
    """Base draws and flips of the sites that Heaviside units alone read; noisy copies of the others.

    Raises:
        UserError: when there is no such site, or more flips than a site has units.
    """
    if not any(site.binary for site in sites):
        raise UserError(
            f"estimator.scheme = {estimator.scheme!r}: the network has no Heaviside unit whose bit could be turned; use"
            " estimator.scheme = 'layerwise'"
        )
    everywhere = estimator.scheme == "joint-flips"
    turned = [index for index, site in enumerate(sites) if site.binary]
    if len(estimator.flips) not in (1, len(turned)):
        raise UserError(
            f"estimator.flips = {list(estimator.flips)}: there are {len(turned)} layers of Heaviside units; give one"
            " number for all of them, or one for each"
        )
    flips = estimator.flips * (len(turned) if len(estimator.flips) == 1 else 1)
    kinds = [_flip_kind(sites, *each, estimator, everywhere) for each in zip(turned, flips, strict=True)]
    others = [index for index, site in enumerate(sites) if not site.binary]
    if everywhere:
        return [*kinds, *joint_kinds(sites, estimator)] if others else list(kinds)
    return [*kinds, *(copies_kind(sites, index, estimator) for index in others)]


def _flip_kind(sites: Sequence[Site], index: int, flips: int, estimator: EstimatorConfig, everywhere: bool) -> FlipKind:
    site, sizes = sites[index], [site.size for site in sites]
    if flips > site.size:
        raise UserError(
            f"estimator.flips = {flips}: layer {site.module!r} has {site.size} units; give at most as many, or 0"
            " to turn each"
        )
    drawn = flips if flips < site.size else 0
    signs = 2 if estimator.base_antithetic else 1
    return FlipKind(
        site=index,
        draws=estimator.base_draws // signs,
        signs=signs,
        values=(sum(sizes) if everywhere else site.size) + bool(drawn),
        widest=max(sizes[index if site.reader is None else site.reader :]),
        flips=drawn or site.size,
        units=site.size,
        drawn=drawn,
        everywhere=everywhere,
    )


def flips_losses(net: Net, kind: FlipKind, noise: SiteNoise, x: Tensor, labels: Tensor, where: str) -> Tensor:
    """What an evaluator sends of a unit: the differences L(1) - L(0), float32 [S * M * F, R].

    Where bits are drawn, their numbers stand before the differences: [2 * S * M * F, R].
    """
    turned = [turned_losses(net, kind, noise, sign, x, labels, where) for sign in (1.0, -1.0)[: kind.signs]]
    parts = [picks.float().flatten(0, 1) for picks, _ in turned] if kind.drawn else []
    return torch.cat([*parts, *(differences.flatten(0, 1) for _, differences in turned)])


def flips_gradient(net: Net, x: Tensor, units: Sequence[Observed]) -> list[Tensor]:
    """The gradient, summed over the block's rows, with one site noised at a time."""
    return site_by_site(net, x, units, _site_signal)


def _site_signal(net: Net, index: int, z: Tensor, units: Sequence[Observed]) -> Tensor:
    if not isinstance(units[0].kind, FlipKind):
        return copies_signal(net, index, z, units)
    flat = z.flatten(1).unsqueeze(0)
    total = _signal(net, units[0], flat)
    for unit in units[1:]:
        total += _signal(net, unit, flat)
    return total.view_as(z)


def joint_flips_gradient(net: Net, x: Tensor, units: Sequence[Observed]) -> list[Tensor]:
    """As `flips_gradient`, with every site noised: the base draws are replayed, and z differs by draw."""
    total = [torch.zeros_like(p) for p in net.parameters]
    for pairs in _passes(net, x, units):
        for sum_, part in zip(total, pullback(pairs, net.parameters), strict=True):
            sum_ += part
    return total


def _passes(net: Net, x: Tensor, units: Sequence[Observed]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """(pre-activations, error signals) of one replayed pass after the other, so that one graph is held at a time."""
    copies = [unit for unit in units if not isinstance(unit.kind, FlipKind)]
    for unit in units:
        if isinstance(unit.kind, FlipKind):
            yield from ([_replayed(net, x, unit, number)] for number in range(unit.kind.signs))
    others = frozenset(index for index, site in enumerate(net.sites) if not site.binary)
    for advantage, unit in with_advantages(copies, net.estimator.baseline) if copies else ():
        for number in range(len(advantage)):
            if pairs := joint_signals(net, x, unit.noise(), advantage, number, among=others):
                yield pairs


def _replayed(net: Net, x: Tensor, unit: Observed, number: int) -> tuple[Tensor, Tensor]:
    """A site's pre-activations in the base draws of one sign, with their error signals."""
    kind, scale = unit.kind, (1.0, -1.0)[number] * net.noise.scale
    eps = {index: noise for index, noise in unit.noise().items() if index != PICKS}
    z = site_outputs(net, eps, scale, x)[kind.site]
    shape = net.sites[kind.site].shape
    z = z.expand(kind.draws, len(x), *shape)  # no noise reaches the first site: one z for all draws
    with torch.no_grad():
        return z, _signal(net, unit, z.detach().flatten(2), number).view_as(z)


def _signal(net: Net, unit: Observed, z: Tensor, sign: int | None = None) -> Tensor:
    """A unit's part of its site's error signal, draw by draw, [M, R, N]; their sum is the part.

    ``z`` are the pre-activations without the site's noise: [M, R, N] in the base draws of one sign, or, where these are the
    same in all draws of both signs (None), [1, R, N]; then the draws are added up here.
    """
    kind, estimator = unit.kind, net.estimator
    assert isinstance(kind, FlipKind)
    weight = density(net.noise.family, z / net.noise.scale) / (net.noise.scale * estimator.base_draws)
    seen = unit.losses.view(2 if kind.drawn else 1, kind.signs, kind.draws, kind.flips, -1)
    # [M, F, R], or [1, S * M * F, R]; the first of two are the numbers of the bits
    each = seen.view(len(seen), 1, -1, seen.shape[-1]) if sign is None else seen[:, sign]
    if not kind.drawn:
        differences = each[0].view(len(z), -1, kind.flips, seen.shape[-1]).sum(1)
        if kind.flips == kind.units:
            return weight * differences.mT
        signal, span = torch.zeros_like(weight), slice(kind.first, kind.first + kind.flips)
        signal[..., span] = weight[..., span] * differences.mT
        return signal
    where, differences = each[0].transpose(1, 2).long(), each[1].transpose(1, 2)
    chances = drawing_weights(net, kind, z)
    # E[times j is drawn] = F w_j / sum w in this piece; all pieces together drew `drawn`
    scaled = weight * chances.sum(-1, keepdim=True) / (chances.clamp_min(torch.finfo(chances.dtype).tiny) * kind.drawn)
    return torch.zeros_like(weight).scatter_add_(-1, where, scaled.float().gather(-1, where) * differences)
