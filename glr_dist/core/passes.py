"""Noisy forward passes: the part of the estimator that sees data and parameters and returns losses.

Copies are vectorised by ``torch.func.vmap`` over the noise, which a forward hook adds at the sites: what lies before the
first noised site is computed once per example, whatever the network looks like.

Shapes: S signs, P draws (K = S * P copies), R rows (examples), N a site's outputs, C classes, D parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from glr_dist.core.losses import Loss
from glr_dist.core.sites import Site, tapped

SiteNoise = Mapping[int, Tensor]  # site index -> standard noise [P, R, *N]


def split_noise(values: Tensor, draws: int, rows: int, sites: Sequence[Site], indices: Sequence[int]) -> dict[int, Tensor]:
    """One unit's flat noise, cut into its sites' shares.

    Args:
        values: [draws * rows * sum of the sites' sizes].
        draws: P.
        rows: R.
        sites: all sites of the model.
        indices: the sites that the unit noises.

    Returns:
        ``{site index: [P, R, *N]}``, views of ``values``.
    """
    sizes = [draws * rows * sites[i].size for i in indices]
    parts = values.split(sizes)
    return {i: part.view(draws, rows, *sites[i].shape) for i, part in zip(indices, parts, strict=True)}


def noisy_logits(model: nn.Module, sites: Sequence[Site], noise: SiteNoise, scale: float, x: Tensor) -> Tensor:
    """The network's outputs with ``scale * noise`` added at the sites: [P, R, C]. A negative scale gives the other sign."""
    order = list(noise)

    def one_copy(*eps: Tensor) -> Tensor:
        def add(index: int, z: Tensor) -> Tensor | None:
            return torch.add(z, eps[order.index(index)], alpha=scale) if index in noise else None

        with tapped(model, sites, add):
            return model(x)  # type: ignore[no-any-return]

    return vmap(one_copy)(*(noise[i] for i in order))


def perturbed_logits(model: nn.Module, eps: Tensor, scale: float, names: Sequence[str], x: Tensor) -> Tensor:
    """The outputs of P networks whose parameters are ``theta + scale * eps``: [P, R, C]. The model stays as it is.

    Args:
        model: holds theta.
        eps: standard noise [P, D] over the named parameters, in that order.
        scale: sigma or b; negative for the other sign.
        names: the perturbed parameters.
        x: inputs [R, ...].
    """
    theta = dict(model.named_parameters())
    sizes = [theta[name].numel() for name in names]

    def one_member(member: Tensor) -> Tensor:
        parts = zip(names, member.split(sizes), strict=True)
        moved = {name: torch.add(theta[name], part.view_as(theta[name]), alpha=scale) for name, part in parts}
        return functional_call(model, moved, (x,))  # type: ignore[no-any-return]

    return vmap(one_member)(eps)


def copy_losses(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of every copy: [P, R]. The loss sees copies as further examples, so it need not know of ``vmap``.

    Args:
        loss: per-example loss.
        logits: [P, R, C].
        labels: [R].
    """
    draws, rows = logits.shape[:2]
    values = loss(logits.flatten(0, 1), labels.repeat(draws))
    if tuple(values.shape) != (draws * rows,):
        # the caller's check names the step and unit; it wants the shape for one pass over the examples
        return loss(logits[0], labels).detach().unsqueeze(0)
    return values.view(draws, rows)
