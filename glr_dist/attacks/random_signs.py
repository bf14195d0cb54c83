"""The control of every attack: noise of the same size, the worst of many draws.

    x + epsilon * s, each s_i -1 or 1 with probability 1/2

Shapes: B samples, A samples that are left to try.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glr_dist.attacks.attack import Attack, Attacked, attacking, counted, register
from glr_dist.attacks.ball import Logits, fooled, own_stream, project

_ROUND = 50  # draws of a sample that are tried at once; part of what a seed means


@register
@dataclass(frozen=True, kw_only=True)
class RandomSigns(Attack):
    """Random signs: for each sample the first draw that fools, else the last one.

    A sample's draws depend on the seed and on the sample alone, wherever it stands and whatever stands beside it.

    Attributes:
        draws: most draws per sample.
    """

    name = "random-signs"
    knowledge = "none"

    draws: int = 1000

    @property
    def words(self) -> str:
        """Its settings for people to read."""
        return counted(self.draws, "draw")

    @property
    def tries(self) -> int:
        """The draws."""
        return self.draws

    def seen_by_another(self) -> Attack:
        """Signs that were chosen on another network are one draw for this one."""
        return dataclasses.replace(self, draws=1)

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Try one round of draws after the other, each on the samples that none before has fooled."""
        with attacking(self, logits, x, labels) as asked:
            streams = [own_stream(seed, sample) for sample in x]
            best, left = x.clone(), torch.arange(len(x), device=x.device)
            for first in range(0, self.draws, _ROUND):
                count = min(_ROUND, self.draws - first)
                signs = torch.stack([_signs(streams[row], count, x[0]) for row in left])
                clean = x[left].unsqueeze(1)
                tried = project(clean + self.epsilon * signs, clean, self.epsilon)  # [A, count, ...]
                hits = fooled(asked, tried.flatten(0, 1), labels[left].repeat_interleave(count)).view(-1, count)
                chosen = torch.where(hits.any(1), hits.int().argmax(1), count - 1)
                best[left] = tried[torch.arange(len(left)), chosen]
                left = left[~hits.any(1)]
                if not len(left):
                    break
        return Attacked(x=best, queries=asked.rows / len(x))


def _signs(stream: np.random.Generator, count: int, like: Tensor) -> Tensor:
    """``count`` times -1 or 1 for each pixel: [count, *pixels]."""
    bits = np.unpackbits(np.frombuffer(stream.bytes((count * like.numel() + 7) // 8), np.uint8))
    return torch.from_numpy(bits[: count * like.numel()]).to(like).mul_(2.0).sub_(1.0).view(count, *like.shape)
