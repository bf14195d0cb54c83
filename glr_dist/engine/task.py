"""What is trained, on what, and how: all that evaluators and reconstructors need to know, once, to serve every step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import Loss
from glr_dist.core.noise import GeneratorSource, NoiseSource, TableSource
from glr_dist.core.passes import split_noise
from glr_dist.core.sites import Site
from glr_dist.data.batches import Block, BlockSchedule
from glr_dist.data.source import DataSource
from glr_dist.engine.config import AugmentConfig, UnitsConfig
from glr_dist.engine.plan import ALL_SITES, WorkUnit, draw_chunks, step_units
from glr_dist.seeds import Purpose, seed_of

if TYPE_CHECKING:
    from glr_dist.runs.surrogate import Surrogate

METHODS = ("glr", "bp", "bp-noise", "straight-through", "es")
OBSERVERS = ("glr", "es")  # methods that live on losses of noisy passes; the others on autograd


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training task; travels to every actor once.

    Attributes:
        model: the network, on the CPU; every call brings its own parameter values, buffers are taken from here.
        sites: its noise sites.
        fold: whether `glr_dist.core.passes.folds` lets copies be rows of a larger batch.
        method: one of METHODS.
        loss: per-example loss.
        estimator: copies, scheme, baseline, conditioning.
        noise: family, scale, source.
        units: shape of the work units.
        data: opens the shards.
        schedule: which rows make up which step.
        seed: the run's.
        augment: what becomes of the rows before they are seen.
        surrogate: the fixed network that adversarial rows are made on; None: the network itself, or no such rows.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    fold: bool
    method: str
    loss: Loss
    estimator: EstimatorConfig
    noise: NoiseConfig
    units: UnitsConfig
    data: DataSource
    schedule: BlockSchedule
    seed: int
    augment: AugmentConfig
    surrogate: Surrogate | None

    @property
    def observes_losses(self) -> bool:
        """Whether the method lives on losses of noisy passes, or on autograd (the controls)."""
        return self.method in OBSERVERS

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that belong to a site and want a gradient, by name in the model's order; the others stay."""
        modules = dict(self.model.named_modules())
        layers = (modules[site.module] for site in self.sites)
        owned = {id(p) for layer in layers for p in layer.parameters(recurse=False) if p.requires_grad}
        return {name: p for name, p in self.model.named_parameters() if id(p) in owned}

    def noise_sizes(self) -> dict[int, int]:
        """Noise values per copy (``es``) or per copy and example, for each kind of unit that a step has."""
        if self.method in ("bp", "straight-through"):
            return {}
        if self.method == "es":
            return {ALL_SITES: sum(p.numel() for p in self.trainable.values())}
        sizes = [site.size for site in self.sites]
        if self.method == "bp-noise" or self.estimator.scheme == "joint":
            return {ALL_SITES: sum(sizes)}
        return dict(enumerate(sizes))

    def units_of(self, step: int) -> list[WorkUnit]:
        """The work units of a step, counted from 0."""
        rows = self.schedule.rows
        chunks = {site: draw_chunks(self.estimator, self.units, rows, size) for site, size in self._largest().items()}
        return step_units(step, self.schedule.blocks(step), chunks)

    def _largest(self) -> dict[int, int]:
        """Values per copy and example of the largest tensor of a unit: all that follows the noise has a row per copy."""
        sizes = [site.size for site in self.sites]
        if self.method == "es":
            return {ALL_SITES: max(-(-self.noise_sizes()[ALL_SITES] // self.schedule.rows), *sizes)}
        return {site: size if site == ALL_SITES else max(sizes[site:]) for site, size in self.noise_sizes().items()}

    def losses_per_step(self) -> int:
        """Scalars that evaluators send home in a step."""
        kinds = len(self.noise_sizes()) if self.observes_losses else 0
        return kinds * self.estimator.copies * self.schedule.rows * self.schedule.blocks_per_step

    def draw(self, source: NoiseSource, unit: WorkUnit, device: torch.device) -> Mapping[int, Tensor]:
        """A unit's noise: {site: [P, R, *N]}, or {ALL_SITES: [P, D]} for noise on the weights."""
        values = source.values(unit.seed(self.seed), self.noise_count(unit)).to(device)
        if self.method == "es":
            return {ALL_SITES: values.view(unit.draws, -1)}
        noised = list(range(len(self.sites))) if unit.site == ALL_SITES else [unit.site]
        return split_noise(values, unit.draws, self.schedule.rows, self.sites, noised)

    def noise_count(self, unit: WorkUnit) -> int:
        """Noise values that a unit draws."""
        return unit.draws * self.noise_sizes()[unit.site] * (1 if self.method == "es" else self.schedule.rows)

    def make_table(self) -> np.ndarray | None:
        """The run's noise table, float32 [table_size], or None for other noise sources."""
        if self.noise.source != "table" or not self.noise_sizes():
            return None
        seed = seed_of(self.seed, Purpose.TABLE)
        return TableSource.make(self.noise.family, self.noise.table_size, seed).table.numpy()

    def noise_source(self, table: np.ndarray | None, device: torch.device) -> NoiseSource:
        """The noise source for a worker on ``device``; ``table`` as made by the driver."""
        if self.noise.source == "generator" or table is None:
            return GeneratorSource(self.noise.family, str(device))
        with warnings.catch_warnings():
            # the table lies read-only in the object store, and nobody writes to it
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return TableSource(self.noise.family, torch.from_numpy(table).to(device))


def flat_parameters(model: nn.Module) -> Tensor:
    """All parameters as one float32 vector in the model's order, detached."""
    return torch.cat([p.detach().float().flatten().cpu() for p in model.parameters()])


@torch.no_grad()
def load_parameters(model: nn.Module, flat: np.ndarray) -> None:
    """Copy a flat vector into the model's own parameter tensors (never alias the object store's memory)."""
    fresh = torch.tensor(flat, device=next(model.parameters()).device)
    start = 0
    for p in model.parameters():
        p.copy_(fresh[start : start + p.numel()].view_as(p))
        start += p.numel()
    assert start == fresh.numel(), f"{fresh.numel()} values for {start} parameters"


def block_rows(task: Task, block: Block) -> tuple[Tensor, Tensor]:
    """The examples of a block as they are in the data: inputs [R, ...] and labels [R], fresh tensors on the CPU."""
    return task.data.rows("train", block.shard, task.schedule.row_numbers(block))


def by_block(units: Sequence[WorkUnit]) -> list[list[int]]:
    """Positions of the units in their list, grouped by block, in order."""
    groups: dict[object, list[int]] = {}
    for position, unit in enumerate(units):
        groups.setdefault(unit.block, []).append(position)
    return list(groups.values())
