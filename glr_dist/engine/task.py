"""What is trained, on what, and how: all that evaluators and reconstructors need to know, once, to serve every step."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import Loss
from glr_dist.core.noise import NoiseSource, TableSource
from glr_dist.core.parameters import trainable_parameters
from glr_dist.core.passes import PICKS, SiteNoise, split_noise
from glr_dist.core.sites import Site
from glr_dist.core.units import ALL_SITES
from glr_dist.data.batches import Block
from glr_dist.data.source import DataSource
from glr_dist.engine.certified import Certified
from glr_dist.engine.config import AugmentConfig
from glr_dist.engine.plan import Plan, Unit
from glr_dist.methods.method import Method, Net
from glr_dist.seeds import Purpose, seed_of

if TYPE_CHECKING:
    from glr_dist.runs.network import Network


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training task; travels to every actor once.

    Attributes:
        model: the network, on the CPU; every call brings its own parameter values, buffers are taken from here.
        sites: the noise sites of what methods look at (`seen`).
        fold: whether `glr_dist.core.passes.folds` lets copies be rows of a larger batch.
        method: from losses, or by autograd, to gradients.
        loss: per-example loss.
        estimator: copies, scheme, baseline, conditioning.
        noise: family, scale, source.
        plan: which units and rows make up which step.
        data: opens the shards.
        augment: what becomes of the rows before they are seen.
        certified: what is trained is the worst case in balls around them; None: their own loss.
        surrogate: the fixed network that adversarial rows are made on; None: the network itself, or no such rows.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    fold: bool
    method: Method
    loss: Loss
    estimator: EstimatorConfig
    noise: NoiseConfig
    plan: Plan
    data: DataSource
    augment: AugmentConfig
    certified: Certified | None = None
    surrogate: Network | None

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that belong to a site and want a gradient, by name in the model's order; the others stay."""
        return trainable_parameters(self.seen(self.model), self.sites)

    def seen(self, model: nn.Module) -> nn.Module:
        """What methods look at, over the same parameters: a network itself, or its interval network."""
        return model if self.certified is None else self.certified.network(model)

    def net(self, device: torch.device) -> Net:
        """A copy of the network on a device, as methods look at it."""
        return Net.of(
            self.seen(copy.deepcopy(self.model).to(device)),
            self.sites,
            fold=self.fold,
            loss=self.loss,
            noise=self.noise,
            estimator=self.estimator,
        )

    def draw(self, source: NoiseSource, unit: Unit, device: torch.device) -> SiteNoise:
        """A unit's noise: {site: [P, R, *N]}, or {ALL_SITES: [P, D]} for noise on the weights."""
        values = source.values(unit.seed(self.plan.seed), unit.values).to(device)
        if unit.kind.shared:
            return {ALL_SITES: values.view(unit.draws, -1)}
        noised = list(range(len(self.sites))) if unit.kind.noises_all else [unit.site]
        neurons = unit.draws * unit.rows * sum(self.sites[index].size for index in noised)
        noise = split_noise(values[:neurons], unit.draws, unit.rows, self.sites, noised)
        if neurons < len(values):
            noise[PICKS] = values[neurons:].view(unit.draws, unit.rows)
        return noise

    def make_table(self) -> np.ndarray | None:
        """The run's noise table, float32 [table_size]; None where the noise has another source, or there is none."""
        if self.noise.source != "table" or not self.plan.largest_draw:
            return None
        seed = seed_of(self.plan.seed, Purpose.TABLE)
        return TableSource.make(self.noise.family, self.noise.table_size, seed).table.numpy()

    def asked(self, x: Tensor, labels: Tensor, block: Block) -> tuple[Tensor, Tensor]:
        """What the seen network is given for a block's rows, inputs [R, ...] and labels [R]."""
        if self.certified is None:
            return x, labels
        return self.certified.rows(x, labels, self.plan.schedule.step_of(block))

    def rows(self, block: Block) -> tuple[Tensor, Tensor]:
        """The examples of a block as they are in the data: inputs [R, ...] and labels [R], fresh tensors on the CPU."""
        return self.data.rows("train", block.shard, self.plan.schedule.row_numbers(block))
