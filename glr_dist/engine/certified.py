"""Training on the proof: what a run with loss ``certified`` sees in the place of its network and of its rows.

Its network is the interval network over the same parameters (`glr_dist.models.interval`), and its rows are balls: around the
first rows of a block, the share ``certify.mix``, of radius 0, where the worst case is the network's own loss, around the
others of the radius of the step. That grows from 0 to ``certify.epsilon`` over the first steps and hangs on nothing but the
step, so a unit is what it was before: a pure function of (parameters, unit, rows).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glr_dist.attacks.ball import check_images
from glr_dist.core.config import CERTIFIED
from glr_dist.engine.config import CertifyConfig, ScheduleConfig
from glr_dist.models.interval import IntervalNetwork, questions


@dataclass(frozen=True, kw_only=True)
class Certified:
    """How balls grow in a run.

    Attributes:
        epsilon: the radius in the end.
        ramp: steps until then.
        mix: share of each block's rows that have radius 0.
        shape: of an input of the network.
    """

    epsilon: float
    ramp: int
    mix: float
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls, loss: str, certify: CertifyConfig, schedule: ScheduleConfig, steps: int, shape: tuple[int, ...]
    ) -> Certified | None:
        """Of a run with so many steps; None for any other loss. A run that was extended keeps its ramp."""
        if loss not in CERTIFIED:
            return None
        first = schedule.legs[0] if schedule.legs else steps
        return cls(epsilon=certify.epsilon, ramp=round(certify.ramp * first), mix=certify.mix, shape=shape)

    def radius(self, step: int) -> float:
        """Of a step, counted from 0."""
        return self.epsilon * min(1.0, step / self.ramp) if self.ramp else self.epsilon

    def network(self, model: nn.Module) -> nn.Module:
        """The interval network over the parameters of a network."""
        return IntervalNetwork(model, self.shape)

    def rows(self, x: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The balls around a block's inputs [R, ...], as the interval network takes them, in the order of their labels [R].

        Raises:
            UserError: for inputs outside [0, 1].
        """
        check_images(x)
        radius = torch.full((len(x),), self.radius(step))
        radius[: round(self.mix * len(x))] = 0.0
        order = labels.argsort(stable=True)  # whose leads the read-out takes in turn
        return questions(x[order], labels[order], radius[order]), labels[order]
