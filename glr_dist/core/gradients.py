"""Gradients of one block of examples, by every method: from losses and regenerated noise, or by autograd for the controls.

All return the *sum* over the block's rows, one tensor per trainable parameter; the driver adds the blocks up in their
order and divides by the batch. Copies come in chunks (one per work unit), so memory is bounded by the largest chunk.

Shapes: S signs, P draws, K copies, R rows, N a site's outputs, D parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vmap

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.estimator import advantages, copy_scores, error_signal, pullback
from glr_dist.core.losses import Loss, check_losses
from glr_dist.core.noise import score
from glr_dist.core.passes import copy_losses, noisy_logits, noisy_pass
from glr_dist.core.sites import Site, tapped


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some of the copies of a block's examples.

    Attributes:
        losses: float32 [S, P, R].
        noise: draws the chunk's noise again: {site index: [P, R, *N]}, or {-1: [P, D]} for noise on the weights.
    """

    losses: Tensor
    noise: Callable[[], Mapping[int, Tensor]]


def with_advantages(chunks: Sequence[Chunk], baseline: str) -> list[tuple[Tensor, Chunk]]:
    """Each chunk with its advantages [S, P, R]; the baseline is taken over all chunks."""
    every = advantages(torch.cat([chunk.losses for chunk in chunks], dim=1), baseline)
    parts = every.split([chunk.losses.shape[1] for chunk in chunks], dim=1)
    return list(zip(parts, chunks, strict=True))


def layerwise_gradient(
    model: nn.Module,
    sites: Sequence[Site],
    parameters: Sequence[Tensor],
    noise: NoiseConfig,
    estimator: EstimatorConfig,
    x: Tensor,
    chunks: Mapping[int, Sequence[Chunk]],
) -> list[Tensor]:
    """The likelihood-ratio gradient with one site noised at a time.

    Args:
        model: at the parameters that the losses were observed at.
        sites: all sites.
        parameters: what to differentiate by.
        noise: family and scale.
        estimator: baseline, conditioning, copies.
        x: the block's inputs [R, ...].
        chunks: {site index: its chunks}.
    """
    outputs: dict[int, Tensor] = {}

    def keep(index: int, z: Tensor) -> Tensor:
        outputs[index] = z
        return z.detach().clone()  # what follows may work in place

    with tapped(model, sites, keep, detach=True):
        model(x)
    pairs = []
    with torch.no_grad():
        for index, site_chunks in chunks.items():
            z = outputs[index].detach() if estimator.conditioning and sites[index].binary else None
            parts = [
                error_signal(noise.family, noise.scale, advantage, chunk.noise()[index], z, estimator.copies)
                for advantage, chunk in with_advantages(site_chunks, estimator.baseline)
            ]
            pairs.append((outputs[index], torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]))
    return pullback(pairs, parameters)


def joint_gradient(
    model: nn.Module,
    sites: Sequence[Site],
    parameters: Sequence[Tensor],
    noise: NoiseConfig,
    estimator: EstimatorConfig,
    x: Tensor,
    chunks: Sequence[Chunk],
    *,
    fold: bool = False,
) -> list[Tensor]:
    """The likelihood-ratio gradient with all sites noised at once; replays the noisy passes, as inputs differ by copy."""
    total = [torch.zeros_like(p) for p in parameters]
    for advantage, chunk in with_advantages(chunks, estimator.baseline):
        eps = chunk.noise()
        first = min(eps)  # no noise reaches its input: one z for all copies of an example
        for number, sign in enumerate((1.0, -1.0)[: len(advantage)]):
            outputs = _replay(model, sites, eps, sign * noise.scale, x, fold)
            z_first = outputs.pop(first)
            pairs = []
            with torch.no_grad():
                if number == 0:  # both signs at once
                    condition = z_first.detach() if estimator.conditioning and sites[first].binary else None
                    d = error_signal(noise.family, noise.scale, advantage, eps[first], condition, estimator.copies)
                    pairs.append((z_first, d))
                for index, z in outputs.items():
                    condition = z.detach() if estimator.conditioning and sites[index].binary else None
                    scores = copy_scores(noise.family, noise.scale, eps[index], condition, sign)
                    weight = advantage[number].view(*advantage[number].shape, *(1,) * (scores.dim() - 2))
                    pairs.append((z, scores * weight / estimator.copies))
            if pairs:
                for sum_, part in zip(total, pullback(pairs, parameters), strict=True):
                    sum_ += part
    return total


def _replay(
    model: nn.Module, sites: Sequence[Site], eps: Mapping[int, Tensor], scale: float, x: Tensor, fold: bool
) -> dict[int, Tensor]:
    """The noised sites' pre-activations, each a function of its own layer's parameters alone.

    Returns:
        {site: [P, R, *N]}, but [R, *N] for the first site, where all copies of an example agree.
    """
    first = min(eps)
    if fold:
        seen: dict[int, Tensor] = {}

        def add(index: int, z: Tensor, noise: Tensor) -> Tensor:
            seen[index] = z if index == first else z.expand(noise.shape)
            return torch.add(z.detach(), noise, alpha=scale)

        noisy_pass(model, sites, eps, add, x, fold=True, detach=True)
        return seen
    order = sorted(eps)

    def one_copy(*noise: Tensor) -> tuple[Tensor, ...]:
        kept: dict[int, Tensor] = {}

        def keep(index: int, z: Tensor) -> Tensor:
            kept[index] = z
            return torch.add(z.detach(), noise[order.index(index)], alpha=scale)

        with tapped(model, sites, keep, detach=True):
            model(x)
        return tuple(kept[i] for i in order)

    outputs = dict(zip(order, vmap(one_copy)(*(eps[i] for i in order)), strict=True))
    return {**outputs, first: outputs[first][0]}


def weights_gradient(
    parameters: Sequence[Tensor], noise: NoiseConfig, estimator: EstimatorConfig, chunks: Sequence[Chunk]
) -> list[Tensor]:
    """Evolution strategies: noise on the weights, and every example's loss of every member (Salimans et al., 2017)."""
    total = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    for advantage, chunk in with_advantages(chunks, estimator.baseline):
        member = advantage.sum(-1)  # [S, P], summed over the block's rows
        weight = member[0] - member[1] if member.shape[0] == 2 else member[0]
        total += weight @ score(noise.family, chunk.noise()[-1]) / (noise.scale * estimator.copies)
    parts = total.split([p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


def backprop_gradient(
    model: nn.Module, parameters: Sequence[Tensor], loss: Loss, x: Tensor, labels: Tensor, where: str
) -> list[Tensor]:
    """The control: autograd through the clean pass; 0 for what lies before a Heaviside unit.

    Raises:
        UserError: for losses of a wrong shape or not finite; names ``where`` the examples are from.
    """
    losses = loss(model(x), labels)
    check_losses(losses.unsqueeze(0), (1, len(x)), where)
    return _autograd(losses.sum(), parameters)


def noisy_backprop_gradient(
    model: nn.Module,
    sites: Sequence[Site],
    parameters: Sequence[Tensor],
    loss: Loss,
    scale: float,
    x: Tensor,
    labels: Tensor,
    chunks: Sequence[Chunk],
    copies: int,
    where: str,
    *,
    fold: bool = False,
) -> list[Tensor]:
    """The control with the same noise: autograd through the noisy passes, the mean over the copies.

    Raises:
        UserError: for losses of a wrong shape or not finite; names ``where`` the examples are from.
    """
    total = [torch.zeros_like(p) for p in parameters]
    for chunk in chunks:
        eps = chunk.noise()
        for sign in (1.0, -1.0)[: chunk.losses.shape[0]]:
            losses = copy_losses(loss, noisy_logits(model, sites, eps, sign * scale, x, fold=fold), labels)
            check_losses(losses, (eps[min(eps)].shape[0], len(x)), where)
            for sum_, part in zip(total, _autograd(losses.sum() / copies, parameters), strict=True):
                sum_ += part
    return total


def _autograd(total: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The derivative d total / d parameters, zeros where the graph does not reach: a Heaviside unit's derivative is 0."""
    return list(torch.autograd.grad(total, list(parameters), allow_unused=True, materialize_grads=True))
