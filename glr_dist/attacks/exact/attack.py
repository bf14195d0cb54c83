"""Proofs as entries among the attacks: by intervals alone, or exact (proved safe, broken, or undecided when time is up)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.attacks.attack import Attack, Attacked, attacking, register
from glr_dist.attacks.ball import Logits, finite, fooled
from glr_dist.attacks.exact.intervals import proof_layers, worst_leads
from glr_dist.attacks.exact.network import threshold_network


@register
@dataclass(frozen=True, kw_only=True)
class Intervals(Attack):
    """Proofs by one pass of intervals, for rows of layers of any depth: they prove, and break nothing."""

    name = "intervals"
    knowledge = "exact"
    noise = "none"
    stored = False
    chunk = 500
    spares = True

    def refuse(self, logits: Logits, x: Tensor, labels: Tensor) -> None:
        """Refuse a network with layers that are not known."""
        assert isinstance(logits, nn.Module)
        proof_layers(logits)

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Which samples are proved; all others are undecided, but those that are wrong as they are."""
        assert isinstance(logits, nn.Module)
        with attacking(self, logits, x, labels):
            safe = proved(logits, x, labels, self.epsilon)
            undecided = ~safe & ~fooled(logits, x, labels)
        return Attacked(x=x.clone(), safe=safe, undecided=undecided, bounded=safe)


def proved(model: nn.Module, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Which samples intervals prove: bool [B]."""
    return (worst_leads(proof_layers(model), x, labels, epsilon) > 0).all(1)


@register
@dataclass(frozen=True, kw_only=True)
class Exact(Attack):
    """Every sample decided, for networks with one hidden Heaviside layer: by intervals first, else by a program."""

    name = "exact"
    knowledge = "exact"
    makers = ("glr_dist", "scipy")  # its mixed-integer solver
    noise = "none"
    stored = False
    chunk = 50  # most are decided by intervals; of the others one may take a minute
    spares = True

    seconds: float = 60.0  # most per sample

    def check(self) -> None:
        """Raise UserError for settings outside their range."""
        finite("seconds-per-sample", self.seconds)
        super().check()

    @property
    def words(self) -> str:
        """Its settings for people to read."""
        return f"at most {self.seconds:g} s a sample"

    def refuse(self, logits: Logits, x: Tensor, labels: Tensor) -> None:
        """Refuse a network of another architecture."""
        assert isinstance(logits, nn.Module)
        threshold_network(logits)

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Decide each sample; nothing is random but what the clock allows. A broken sample becomes its adversary.

        Intervals prove most samples of a network that was trained to be proved, all at once; the program takes the others.
        """
        from glr_dist.attacks.exact.search import verify  # SciPy's solver takes long to import

        assert isinstance(logits, nn.Module)
        network = threshold_network(logits)
        made, status = x.clone(), ["robust"] * len(x)
        with attacking(self, logits, x, labels):
            bounded = proved(logits, x, labels, self.epsilon)
            for row in (~bounded).nonzero()[:, 0].tolist():
                label = int(labels[row])
                verdict = verify(network, x[row].numpy(), label, self.epsilon, seconds=self.seconds)
                status[row] = verdict.status
                if verdict.adversary is not None:
                    made[row] = torch.from_numpy(verdict.adversary.copy())
        safe, undecided = (torch.tensor([one == state for one in status]) for state in ("robust", "undecided"))
        return Attacked(x=made, safe=safe, undecided=undecided, bounded=bounded)
