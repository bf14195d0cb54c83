"""Noisy forward passes: the part of the estimator that sees data and parameters and returns losses.

Copies are vectorised: the noise is added at the sites (`glr_dist.core.taps`), either under ``torch.func.vmap`` over the
noise, which serves most networks, or, where that gives the same (`folds`), by making copies further rows of the batch,
which is twice as fast. Both ways, what lies before the first noised site is computed once per example. Where neither works
(Python's ``if`` on a tensor, NumPy in the middle, an addition in place), copies are made one by one (`each_copy`).

Shapes: S signs, P draws (K = S * P copies), R rows (examples), N a site's outputs, C classes, D parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from glr_dist.core.losses import Loss, per_batch, repeated
from glr_dist.core.sites import Site
from glr_dist.core.taps import Hooks, Taps
from glr_dist.errors import UserError

Made = TypeVar("Made", bound="Tensor | tuple[Tensor, ...]")
SiteNoise = Mapping[int, Tensor]  # site index -> standard noise [P, R, *N]
PICKS = -2  # the "site" of the noise [P, R] by which flips are drawn


def split_noise(
    values: Tensor, draws: int, rows: int, sites: Sequence[Site], indices: Sequence[int]
) -> dict[int, Tensor]:
    """A unit's flat noise [P * R * sum of the noised sites' sizes] cut into their shares: ``{site index: [P, R, *N]}``.

    ``indices`` says which of the model's sites are noised; the shares are views of ``values``.
    """
    sizes = [draws * rows * sites[i].size for i in indices]
    parts = values.split_with_sizes(sizes)
    return {i: part.view(draws, rows, *sites[i].shape) for i, part in zip(indices, parts, strict=True)}


def noisy_logits(
    taps: Taps, noise: SiteNoise, scale: float, x: Tensor, *, fold: bool = False, from_clean: bool = False
) -> Tensor:
    """The outputs for inputs x [R, ...] with ``scale * noise`` added at the noised ones of all the sites: [P, R, C].

    A negative scale is the other sign of an antithetic pair. With ``fold`` the copies become rows of a larger batch instead
    of a ``vmap``: only for networks that `folds` allows. ``from_clean``: what lies before
    the first noised site is taken from the clean pass of x, and no derivative goes there.
    """

    def add(index: int, z: Tensor, eps: Tensor) -> Tensor:
        return torch.add(z, eps, alpha=scale)

    draws = next(iter(noise.values())).shape[0]
    return noisy_pass(taps, noise, add, x, fold=fold, from_clean=from_clean).view(draws, len(x), -1)


def noisy_pass(
    taps: Taps,
    noise: SiteNoise,
    add: Callable[[int, Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    fold: bool,
    detach: bool = False,
    from_clean: bool = False,
) -> Tensor:
    """One forward pass with ``add(site index, z, eps)`` in the place of the noised sites' outputs z: [P * R, C].

    Before the first noised site there is one row per example; there, ``add`` broadcasts z [R, *N] over eps [P, R, *N].
    """
    order = list(noise)
    draws = noise[order[0]].shape[0]
    if fold:

        def folded(index: int, z: Tensor) -> Tensor | None:
            if index not in noise:
                return None
            spread = z if len(z) == len(x) else z.unflatten(0, (draws, len(x)))
            return add(index, spread, noise[index]).flatten(0, 1)

        return taps.run(x, folded, first=min(order) if from_clean else None, detach=detach)

    def one_copy(*eps: Tensor) -> Tensor:
        def single(index: int, z: Tensor) -> Tensor | None:
            return add(index, z, eps[order.index(index)]) if index in noise else None

        return taps.run(x, single, detach=detach)

    return each_copy(one_copy, *(noise[i] for i in order)).flatten(0, 1)


def folds(model: nn.Module, sites: Sequence[Site], input_shape: Sequence[int], inputs: Tensor | None = None) -> bool:
    """Whether copies may be rows of a larger batch: twice as fast as ``vmap``, but not for every network.

    Tried with random inputs, or with given ones [B, ...] where the network takes whole numbers.

    A residual connection around a site, for example, adds what has one row per example to what has one per copy. Tried out
    for each site on its own and for all at once, against ``vmap``.
    """
    rows, draws = 3, 5
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((rows, *input_shape), generator=generator)
    if inputs is not None and not inputs.is_floating_point():
        x = inputs[:rows]
    noise = {i: torch.randn((draws, rows, *site.shape), generator=generator) for i, site in enumerate(sites)}
    taps = Hooks(model, sites)
    with torch.no_grad():
        for tried in [*({i: eps} for i, eps in noise.items()), noise]:
            expected = noisy_logits(taps, tried, 1.0, x)
            try:
                found = noisy_logits(taps, tried, 1.0, x, fold=True)
            except Exception:  # the user's own code may raise anything where rows are copies
                return False
            if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
                return False
    return True


def each_copy(one: Callable[..., Made], *parts: Tensor) -> Made:
    """What a pass ``one`` gives, a tensor or a tuple of such, for every copy: stacked; ``parts`` [P, ...] are its arguments.

    Under ``vmap``, or in a plain loop where that fails: it is tried anew each time, so which way it goes depends on nothing
    but the arguments.
    """
    try:
        return vmap(one)(*parts)
    except Exception as error:  # the user's own code may raise anything under vmap; if it is in error, the loop tells
        if "randomness" in str(error):
            raise  # noise of its own would be another in each run of a unit
        made: list[Any] = [one(*each) for each in zip(*parts, strict=True)]
    if isinstance(made[0], tuple):
        return cast("Made", tuple(map(torch.stack, zip(*made, strict=True))))
    return cast("Made", torch.stack(made))


def perturbed_logits(model: nn.Module, eps: Tensor, scale: float, names: Sequence[str], x: Tensor) -> Tensor:
    """The outputs of P networks whose parameters are ``theta + scale * eps``, for inputs x [R, ...]: [P, R, C].

    The model holds theta and stays as it is. Standard noise eps [P, D] lies over the named parameters, in that order; a
    negative scale is the other sign of a pair.
    """
    theta = dict(model.named_parameters())
    sizes = [theta[name].numel() for name in names]

    def one_member(member: Tensor) -> Tensor:
        parts = zip(names, member.split(sizes), strict=True)
        moved = {name: torch.add(theta[name], part.view_as(theta[name]), alpha=scale) for name, part in parts}
        return functional_call(model, moved, (x,))  # type: ignore[no-any-return]

    return each_copy(one_member, eps)


def copy_losses(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of every copy, from logits [P, R, C] and labels [R] or numbers [R, C]: [P, R]; of a loss per batch [P, 1].

    The loss sees copies as further examples, so it need not know of ``vmap``; one of a whole batch sees them one by one.

    Raises:
        UserError: when the loss returns no tensor.
    """
    draws, rows = logits.shape[:2]
    if per_batch(loss):
        return torch.stack([whole_loss(loss, each, labels) for each in logits]).unsqueeze(1)
    values = loss(logits.flatten(0, 1), repeated(labels, draws))
    if not isinstance(values, Tensor):
        raise UserError(f"loss: returned a {type(values).__name__}; a loss must return a tensor, one value per example")
    if tuple(values.shape) != (draws * rows,):
        # the caller's check names the step and unit; it wants the shape for one pass over the examples
        return loss(logits[0], labels).detach().unsqueeze(0)
    # a user's 0-1 loss may be bool, one with float64 class weights double
    return values.reshape(draws, rows).to(torch.float32)


def whole_loss(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """The one value of a loss per batch, from logits [R, C]: [].

    Raises:
        UserError: when it returns anything but one number.
    """
    value = torch.as_tensor(loss(logits, labels))
    if value.numel() != 1:
        raise UserError(
            f"loss: returned shape {tuple(value.shape)}; a loss whose attribute per is 'batch' must return one value for all"
            " examples"
        )
    return value.reshape(()).to(logits.device, torch.float32)
