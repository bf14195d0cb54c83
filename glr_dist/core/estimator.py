"""The likelihood-ratio estimator: from losses and noise to error signals, and from those to gradients.

For a site with pre-activation z and J(z) = E[L(z + noise)], the error signal

    d = (1/K) * sum_k (L_k - baseline_k) * score(noise_k)

is an unbiased estimate of dJ/dz, one row per example, and the pullback of d through the site's own layer, its input
detached, is the likelihood-ratio gradient of the layer's parameters, whatever the layer (Peng, Xiao, Heidergott, Hong and
Lam, 2022, "A new likelihood ratio method for training artificial neural networks").

Antithetic pairs are the first axis of everything here: sign 0 is +eps, sign 1 is -eps of the same draw. The baseline of a
copy is the mean loss of the example's other copies, its whole pair left out: the partner's loss depends on the copy's own
noise, so leaving out the copy alone would be biased.

Shapes: S signs (2 with antithetic pairs, else 1), P draws, K = S * P copies, R rows (examples), N a site's outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from glr_dist.core.noise import hazard, hazards, score


def advantages(losses: Tensor, baseline: str) -> Tensor:
    """Losses [S, P, R] of every copy of the examples less their baseline: [S, P, R].

    With ``leave-out``: ``L_k - mean of the losses of the other draws``; with ``none`` the losses as they are.
    """
    if baseline == "none":
        return losses
    signs, draws, _ = losses.shape
    own = losses.sum(0)  # [P, R]: a pair, or a single copy
    others = (own.sum(0) - own) / (signs * (draws - 1))
    return losses - others


def error_signal(family: str, scale: float, advantage: Tensor, eps: Tensor, z: Tensor | None, copies: int) -> Tensor:
    """The part of a site's error signal that these copies give, for one z per example: float32 [R, *N].

    Args:
        family: of the noise.
        scale: sigma or b.
        advantage: [S, P, R] losses less baseline.
        eps: standard noise [P, R, *N], that of sign 0; sign 1 has ``-eps``.
        z: clean pre-activations [R, *N] where the score is conditioned on the sign bit, else None.
        copies: K, all copies of the example: the estimate is a mean over them, this call may see a part.
    """
    flat = eps.flatten(2)  # [P, R, N]
    if z is None:
        # the score is odd: a pair shares it up to its sign
        weight = advantage[0] - advantage[1] if advantage.shape[0] == 2 else advantage[0]
        total = _sum_over_draws(weight, score(family, flat))
        return (total / (scale * copies)).view(eps.shape[1:])
    rows = z.flatten(1)  # [R, N]
    clean = rows.ge(0.0).to(rows.dtype)  # the bit without noise
    turned = rows.new_zeros(rows.shape)  # sum over copies of advantage * (bit - clean)
    for sign, weight in zip((scale, -scale), advantage, strict=False):
        bits = torch.add(rows, flat, alpha=sign).ge_(0.0)  # the very expression the noisy pass evaluates
        turned += _sum_over_draws(weight, bits.sub_(clean))
    up, down = hazards(family, rows / scale)
    # sum_k A_k * (bit_k ? up : -down), told from the clean bit's side: where a saturated unit's bit never turns, the other
    # bit's huge score meets an exact 0 and not the rounding error of a difference of two sums
    total = (up + down) * turned + torch.where(clean > 0, up, -down) * advantage.sum((0, 1)).unsqueeze(-1)
    return (total / (scale * copies)).view(z.shape)


def copy_scores(family: str, scale: float, eps: Tensor, z: Tensor | None, sign: float = 1.0) -> Tensor:
    """The score of every copy by itself, [P, R, *N], for sites whose pre-activation differs by copy (scheme ``joint``).

    Standard noise eps and, where the score is conditioned on the sign bit, pre-activations z have the same shape; sign is
    -1 for the copies that saw ``-eps``.
    """
    if z is None:
        return score(family, eps) * (sign / scale)
    side = torch.where(torch.add(z, eps, alpha=sign * scale) >= 0, 1.0, -1.0)
    # by symmetry both cases are one hazard, that of the bit's own side
    return side * hazard(family, z * side / scale) / scale


def pullback(pairs: Iterable[tuple[Tensor, Tensor]], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of ``sum(z * d)`` over the sites' pairs (z, d), d held constant: one call to autograd for every layer.

    Each z was computed with its site's input detached; the graph stays, as a clean pass serves several. A parameter that no
    site depends on gets zeros.
    """
    wanted = [(z, d) for z, d in pairs if z.requires_grad]  # a frozen layer's output hangs on nothing
    if not wanted:
        return [torch.zeros_like(p) for p in parameters]
    outputs, signals = zip(*wanted, strict=True)
    found = torch.autograd.grad(
        outputs, list(parameters), signals, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return [part.to_dense() if part.is_sparse else part for part in found]  # an embedding's may be sparse


def _sum_over_draws(weight: Tensor, values: Tensor) -> Tensor:
    """sum_p weight[p, r] * values[p, r, n] -> [R, N], as one batched matrix product."""
    return torch.bmm(weight.t().unsqueeze(1), values.transpose(0, 1)).squeeze(1)
