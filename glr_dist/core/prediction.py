"""Accuracy and mean loss of a network, without noise or by the vote of noisy passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glr_dist.core.losses import Loss
from glr_dist.core.noise import NoiseSource
from glr_dist.core.passes import noisy_logits, split_noise
from glr_dist.core.sites import Site
from glr_dist.seeds import Purpose, seed_of

EVALUATION_BATCH = 1000  # examples per clean pass of a validation or test


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What a measurement found.

    Attributes:
        accuracy: share of examples whose class is right, in [0, 1].
        loss: mean loss per example.
        n: examples.
    """

    accuracy: float
    loss: float
    n: int


@torch.no_grad()
def clean_accuracy(model: nn.Module, loss: Loss, batches: Iterable[tuple[Tensor, Tensor]]) -> Accuracy:
    """Accuracy without noise.

    Args:
        model: the network.
        loss: per-example loss.
        batches: (inputs [B, ...], labels [B]).
    """
    right, total, count = 0, 0.0, 0
    for x, labels in batches:
        logits = model(x)
        right += int((logits.argmax(-1) == labels).sum())
        total += float(loss(logits, labels).double().sum())
        count += len(labels)
    return Accuracy(accuracy=right / max(count, 1), loss=total / max(count, 1), n=count)


@torch.no_grad()
def voted_accuracy(
    model: nn.Module,
    sites: Sequence[Site],
    source: NoiseSource,
    scale: float,
    votes: int,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    seed: int,
) -> Accuracy:
    """Accuracy with the training noise left on: classes by the mean probability of ``votes`` noisy passes.

    Args:
        model: the network.
        sites: where the noise goes: all at once.
        source: standard noise.
        scale: sigma or b.
        votes: noisy passes per example.
        loss: per-example loss; reported as its mean over the passes.
        batches: (inputs [B, ...], labels [B]).
        seed: of the noise.
    """
    right, total, count = 0, 0.0, 0
    everywhere = list(range(len(sites)))
    size = sum(site.size for site in sites)
    for number, (x, labels) in enumerate(batches):
        probabilities = torch.zeros(())
        for vote in range(votes):
            key = seed_of(seed, Purpose.VOTE, number, vote)
            values = source.values(key, len(x) * size).to(x.device)
            logits = noisy_logits(model, sites, split_noise(values, 1, len(x), sites, everywhere), scale, x)[0]
            probabilities = probabilities + logits.softmax(-1)
            total += float(loss(logits, labels).double().sum()) / votes
        right += int((probabilities.argmax(-1) == labels).sum())
        count += len(labels)
    return Accuracy(accuracy=right / max(count, 1), loss=total / max(count, 1), n=count)
