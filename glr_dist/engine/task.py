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
from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.data.batches import Block
from glr_dist.data.source import DataSource
from glr_dist.engine.config import AugmentConfig
from glr_dist.engine.plan import Plan, Unit
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
        plan: which units and rows make up which step.
        data: opens the shards.
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
    plan: Plan
    data: DataSource
    augment: AugmentConfig
    surrogate: Surrogate | None

    @property
    def observes_losses(self) -> bool:
        """Whether the method lives on losses of noisy passes, or on autograd (the controls)."""
        return self.method in OBSERVERS

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that belong to a site and want a gradient, by name in the model's order; the others stay."""
        return trainable_parameters(self.model, self.sites)

    def draw(self, source: NoiseSource, unit: Unit, device: torch.device) -> Mapping[int, Tensor]:
        """A unit's noise: {site: [P, R, *N]}, or {ALL_SITES: [P, D]} for noise on the weights."""
        values = source.values(unit.seed(self.plan.seed), unit.values).to(device)
        if unit.kind.shared:
            return {ALL_SITES: values.view(unit.draws, -1)}
        noised = list(range(len(self.sites))) if unit.site == ALL_SITES else [unit.site]
        return split_noise(values, unit.draws, unit.rows, self.sites, noised)

    def make_table(self) -> np.ndarray | None:
        """The run's noise table, float32 [table_size], or None for other noise sources."""
        if self.noise.source != "table" or not self.plan.largest_draw:
            return None
        seed = seed_of(self.plan.seed, Purpose.TABLE)
        return TableSource.make(self.noise.family, self.noise.table_size, seed).table.numpy()

    def noise_source(self, table: np.ndarray | None, device: torch.device) -> NoiseSource:
        """The noise source for a worker on ``device``; ``table`` as made by the driver."""
        if self.noise.source == "generator" or table is None:
            return GeneratorSource(self.noise.family, str(device))
        with warnings.catch_warnings():
            # the table lies read-only in the object store, and nobody writes to it
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return TableSource(self.noise.family, torch.from_numpy(table).to(device))


def unit_kinds(method: str, estimator: EstimatorConfig, sites: Sequence[Site], parameters: int) -> list[UnitKind]:
    """The kinds of unit that a method has, for a network with these sites and so many trainable parameters."""
    if method in ("bp", "straight-through"):
        return []
    signs, sizes = estimator.signs, [site.size for site in sites]
    draws = estimator.copies // signs
    if method == "es":
        widest = max(sizes)
        return [UnitKind(site=ALL_SITES, draws=draws, signs=signs, values=parameters, shared=True, widest=widest)]
    if method == "bp-noise" or estimator.scheme == "joint":
        return [UnitKind(site=ALL_SITES, draws=draws, signs=signs, values=sum(sizes), widest=max(sizes))]
    return [
        UnitKind(site=site, draws=draws, signs=signs, values=size, widest=max(sizes[site:]))
        for site, size in enumerate(sizes)
    ]


def trainable_parameters(model: nn.Module, sites: Sequence[Site]) -> dict[str, nn.Parameter]:
    """The parameters that belong to a site and want a gradient, by name in the model's order."""
    modules = dict(model.named_modules())
    layers = (modules[site.module] for site in sites)
    owned = {id(p) for layer in layers for p in layer.parameters(recurse=False) if p.requires_grad}
    return {name: p for name, p in model.named_parameters() if id(p) in owned}


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
    return task.data.rows("train", block.shard, task.plan.schedule.row_numbers(block))
