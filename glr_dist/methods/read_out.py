"""Cross-entropy of passes that end at a linear read-out, by sums of exponentials instead of passes.

What noise adds to the logits, or a turned bit through its column W_j of the read-out, only weighs the exponentials:

    sum_c exp(z_c +- s eps_c) = sum_c exp(z_c) exp(+-s eps_c)
    sum_c exp(z_c +- W_jc)    = exp(z) @ exp(+-W_j)

so both signs of a pair share one exponential, and all flips of a base draw are one matrix product. Exact but for rounding;
where an exponential could leave float32 nothing is returned, and the passes are made one by one.

Shapes: M base draws, P draws, F flips, R rows (examples), C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST = 30.0  # of what is added to a logit: exp(+-30), times one of the softmax' own, and sums of it stay in float32


def noisy_read_out(z: Tensor, eps: Tensor, scale: float, labels: Tensor, signs: int) -> Tensor | None:
    """The cross-entropy of logits z [R, C] with ``scale * eps`` [P, R, C] added, and with it taken away: [S * P, R]."""
    moves = eps.mul(scale)
    weights = moves.exp()
    if not _within(moves):
        return None
    top = z.amax(-1, keepdim=True)
    p = (z - top).exp_()
    sums = [(weights * p).sum(-1)]
    if signs == 2:
        sums.append(weights.reciprocal_().mul_(p).sum(-1))
    moved = moves.gather(-1, labels.view(1, -1, 1).expand(len(moves), -1, 1)).squeeze(-1)
    own = (z.gather(-1, labels.unsqueeze(-1)) - top).squeeze(-1)
    losses = torch.stack(sums).log_().sub_(own)
    losses[0] -= moved
    losses[1:] += moved
    return losses.flatten(0, 1)


def turned_read_out(logits: Tensor, direction: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """L(1) - L(0) of cross-entropy: [M, F, R].

    Args:
        logits: of the base draws, [M, R, C].
        direction: 1 where a turned bit becomes 1, else -1, [M, F, R].
        weight: the read-out's columns for them, [F, C], or such for each label, [labels, F, C]; for sizes that `small`
            allows.
        labels: [R].
    """
    if weight.dim() == 3:
        return _by_label(logits, direction, weight, labels)
    p = (logits - logits.amax(-1, keepdim=True)).exp_()
    to_zero, to_one = (torch.cat([-weight, weight]).exp_() @ p.mT).split(len(weight), 1)
    moved = torch.lerp(to_zero, to_one, direction.clamp(min=0.0))  # one or the other, exactly
    return moved.div_(p.sum(-1).unsqueeze(1)).log_().mul_(direction).sub_(weight.t()[labels].t())


def _by_label(logits: Tensor, direction: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The same with a read-out for each label; quickest where the rows come in their order."""
    if bool((labels.diff() < 0).any()):
        order = labels.argsort(stable=True)
        found = _by_label(logits[:, order], direction[..., order], weight, labels[order])
        return found[..., order.argsort()]
    found, start = torch.empty_like(direction), 0
    for label, count in enumerate(labels.bincount().tolist()):
        rows, start = slice(start, start + count), start + count
        if count:
            part = turned_read_out(logits[:, rows], direction[..., rows], weight[label], labels[rows])
            found[..., rows] = part
    return found


def small(weight: Tensor) -> bool:
    """Whether no exponential of a read-out's weights could leave float32."""
    return _within(weight)


def _within(moves: Tensor) -> bool:
    low, high = torch.aminmax(moves)
    return float(low) > -_LARGEST and float(high) < _LARGEST
