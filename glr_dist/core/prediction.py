"""Predictions of a network without noise, or by the vote of noisy passes, and their accuracy and mean loss.

By votes, the class is the one of the largest mean probability over V noisy passes. Whoever asks, and in whatever batch, the
same seed gives a sample the same noise.

Shapes: V votes, B examples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.config import NoiseConfig
from glr_dist.core.losses import LOSSES, Loss, per_batch, repeated
from glr_dist.core.noise import GeneratorSource
from glr_dist.core.passes import noisy_logits, split_noise, whole_loss
from glr_dist.core.sites import Site
from glr_dist.core.taps import Hooks
from glr_dist.seeds import Purpose, seed_of

Batches = Iterable[tuple[Tensor, Tensor]]

EVALUATION_BATCH = 1000  # examples per clean pass of a validation or test
VOTE_BATCH = 100  # and per pass of votes, each of which has noise of its own for every example


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The share of n examples whose class is right, in [0, 1], and their mean loss.

    Of 0-1 targets under binary cross-entropy it is the share of targets on the right side; None of other numbers.
    """

    accuracy: float | None
    loss: float
    n: int
    right: tuple[int, ...] = field(default=(), repr=False)
    of: tuple[int, ...] = field(default=(), repr=False)


def clean_accuracy(model: nn.Module, loss: Loss, batches: Batches) -> Accuracy:
    """Accuracy without noise on batches (inputs [B, ...], labels [B])."""
    return _measured(lambda x, first: model(x)[None], lambda logits: logits[0], loss, batches)


def voted_accuracy(voter: Voter, votes: int, loss: Loss, batches: Batches, seed: int) -> Accuracy:
    """Accuracy by votes, and the loss's mean over the noisy passes; the seed is the noise's.

    The batches (inputs [B, ...], labels [B]) hold all examples of a split in their stored order.
    """

    def passes(x: Tensor, first: int) -> Tensor:
        return voter.passes(x, voter.noise_of(range(first, first + len(x)), votes, seed).to(x.device))

    return _measured(passes, mean_probability, loss, batches)


@torch.no_grad()
def _measured(
    passes: Callable[[Tensor, int], Tensor], told: Callable[[Tensor], Tensor], loss: Loss, batches: Batches
) -> Accuracy:
    """By passes (inputs, the first one's place in the split) -> logits [V, B, C], and what these tell: [B, C]."""
    right, of, total, count = torch.zeros(0), torch.zeros(0), 0.0, 0
    kept: list[tuple[Tensor, Tensor]] = []  # where the loss is that of all examples at once
    for x, labels in batches:
        logits = passes(x, count)
        if not count:
            right = of = torch.zeros(logits.shape[-1], dtype=torch.int64)
        hits, asked = _hits(told(logits), labels, loss)
        right, of = right + hits.cpu(), of + asked.cpu()
        if per_batch(loss):
            kept.append((logits, labels))
        else:
            losses = loss(logits.flatten(0, 1), repeated(labels, len(logits)))
            total += float(losses.double().sum()) / len(logits)
        count += len(labels)
    if kept:
        every, labels = torch.cat([logits for logits, _ in kept], dim=1), torch.cat([labels for _, labels in kept])
        total = count * sum(float(whole_loss(loss, logits, labels)) for logits in every) / len(every)
    asked_in_all = int(of.sum())
    return Accuracy(
        accuracy=int(right.sum()) / asked_in_all if asked_in_all else None,
        loss=total / max(count, 1),
        n=count,
        right=tuple(right.tolist()) if asked_in_all else (),
        of=tuple(of.tolist()) if asked_in_all else (),
    )


def _hits(told: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """How many answers are right, and how many there are, of each class or 0-1 target: [C] both; of other numbers none."""
    classes = told.shape[-1]
    if not labels.is_floating_point():
        right = labels[told.argmax(-1) == labels]
        return torch.bincount(right, minlength=classes), torch.bincount(labels, minlength=classes)
    if loss is LOSSES["bce"]:
        return ((told > 0) == (labels > 0.5)).sum(0), torch.full((classes,), len(labels))
    return torch.zeros(classes, dtype=torch.int64), torch.zeros(classes, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Voter:
    """A network that predicts by votes, with the noise of its training at all sites at once."""

    model: nn.Module = field(repr=False)
    sites: Sequence[Site]
    noise: NoiseConfig

    def noise_of(self, indices: Iterable[int], votes: int, seed: int) -> Tensor:
        """Standard noise of a prediction: a sample's is drawn from (seed, its index) and hangs on nothing else.

        For samples at the indices [B] of their split's stored order: [V, B, noise of all sites].
        """
        keys = [seed_of(seed, Purpose.VOTE, int(index)) for index in indices]
        return torch.stack([self.fresh_noise(key, votes, 1)[:, 0] for key in keys], dim=1)

    def fresh_noise(self, seed: np.random.SeedSequence, votes: int, rows: int) -> Tensor:
        """Standard noise of some rows, whoever they are: [V, B, noise of all sites]."""
        size = sum(site.size for site in self.sites)
        return GeneratorSource(self.noise.family).values(seed, votes * rows * size).view(votes, rows, size)

    def passes(self, x: Tensor, values: Tensor) -> Tensor:
        """Noisy forward passes of x [B, ...] with the standard noise ``values`` [V, B, noise of all sites]: [V, B, C]."""
        by_site = values.split([site.size for site in self.sites], dim=-1)
        flat = torch.cat([part.flatten() for part in by_site])
        noise = split_noise(flat, len(values), len(x), self.sites, range(len(self.sites)))
        return noisy_logits(Hooks(self.model, self.sites), noise, self.noise.scale, x)


def mean_probability(logits: Tensor) -> Tensor:
    """The logarithm of the mean probability over the votes: [V, B, C] -> [B, C]."""
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
