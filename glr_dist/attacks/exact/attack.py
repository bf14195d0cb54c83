"""The exact answer as an entry among the attacks: proved safe, broken, or undecided when its time is up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.attacks.attack import Attack, Attacked, attacking, register
from glr_dist.attacks.ball import Logits, finite
from glr_dist.attacks.exact.network import threshold_network


@register
@dataclass(frozen=True, kw_only=True)
class Exact(Attack):
    """Proofs, for networks with one hidden Heaviside layer."""

    name = "exact"
    knowledge = "exact"
    makers = ("glr_dist", "scipy")  # its mixed-integer solver
    noise = "none"
    stored = False
    chunk = 10  # a sample may take a minute
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
        """Decide each sample; nothing is random but what the clock allows. A broken sample becomes its adversary."""
        from glr_dist.attacks.exact.search import verify  # SciPy's solver takes long to import

        assert isinstance(logits, nn.Module)
        network = threshold_network(logits)
        made, status = x.clone(), []
        with attacking(self, logits, x, labels):
            for row, label in enumerate(labels.tolist()):
                verdict = verify(network, x[row].numpy(), label, self.epsilon, seconds=self.seconds)
                status.append(verdict.status)
                if verdict.adversary is not None:
                    made[row] = torch.from_numpy(verdict.adversary.copy())
        safe, undecided = (torch.tensor([one == state for one in status]) for state in ("robust", "undecided"))
        return Attacked(x=made, safe=safe, undecided=undecided)
