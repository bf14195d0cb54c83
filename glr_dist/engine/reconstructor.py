"""The reconstructor: turns seeds and losses into the gradient of a block of examples, the only place that sees gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glr_dist.core.activations import straight_through
from glr_dist.core.gradients import (
    Chunk,
    backprop_gradient,
    joint_gradient,
    layerwise_gradient,
    noisy_backprop_gradient,
    weights_gradient,
)
from glr_dist.data.batches import Block
from glr_dist.engine.plan import Unit, described, is_float32
from glr_dist.engine.rows import BlockRows, Made
from glr_dist.engine.task import Task, load_parameters


class Reconstructor:
    """Reconstructs block gradients of one task; every call brings its own parameters."""

    def __init__(
        self, task: Task, table: np.ndarray | None, device: str = "cpu", rows: BlockRows | None = None
    ) -> None:
        self.task = task
        self.rows = rows or BlockRows(task)
        self.device = torch.device(device)
        self.model = copy.deepcopy(task.model).to(self.device)
        names = task.trainable
        self.parameters = [p for name, p in self.model.named_parameters() if name in names]
        self.source = task.noise_source(table, self.device)

    def block_gradient(
        self,
        parameters: np.ndarray,
        block: Block,
        units: Sequence[Unit],
        losses: Sequence[np.ndarray],
        made: Made = None,
    ) -> np.ndarray:
        """The gradient of the summed loss of one block of examples.

        Args:
            parameters: flat float32 vector, all parameters of the model, as the evaluators had it.
            block: the examples.
            units: the block's units, in the step's order; () for methods that draw no noise.
            losses: what evaluators returned for them, float32 [K, R] each; () for methods that observe none.
            made: the rows, where the call brought them along.

        Returns:
            float32 [D] over the trainable parameters, in the model's order.
        """
        load_parameters(self.model, parameters)
        x, labels = self.rows.of(parameters, block, made)
        where = f"epoch {block.epoch}, shard {block.shard}, block {block.index}"
        parts = self._gradient(x.to(self.device), labels.to(self.device), units, losses, where)
        return torch.cat([part.flatten() for part in parts]).to("cpu", torch.float32).numpy()

    def _gradient(
        self, x: Tensor, labels: Tensor, units: Sequence[Unit], losses: Sequence[np.ndarray], where: str
    ) -> list[Tensor]:
        task, parameters = self.task, self.parameters
        if task.method == "bp":
            return backprop_gradient(self.model, parameters, task.loss, x, labels, where)
        if task.method == "straight-through":
            with straight_through():
                return backprop_gradient(self.model, parameters, task.loss, x, labels, where)
        chunks = self._chunks(units, losses)
        every = [chunk for site in chunks.values() for chunk in site]
        noise, estimator = task.noise, task.estimator
        if task.method == "es":
            return weights_gradient(parameters, noise, estimator, every)
        model, sites, fold = self.model, task.sites, task.fold
        if task.method == "bp-noise":
            scale, copies = noise.scale, estimator.copies
            return noisy_backprop_gradient(
                model, sites, parameters, task.loss, scale, x, labels, every, copies, where, fold=fold
            )
        if estimator.scheme == "joint":
            return joint_gradient(model, sites, parameters, noise, estimator, x, every, fold=fold)
        return layerwise_gradient(model, sites, parameters, noise, estimator, x, chunks)

    def _chunks(self, units: Sequence[Unit], losses: Sequence[np.ndarray]) -> dict[int, list[Chunk]]:
        chunks: dict[int, list[Chunk]] = {}
        for position, unit in enumerate(units):
            shape = (unit.kind.signs, unit.draws, unit.rows)
            seen = torch.tensor(losses[position]).view(shape) if len(losses) else torch.zeros(shape)
            chunk = Chunk(
                losses=seen.to(self.device),
                noise=lambda unit=unit: self.task.draw(self.source, unit, self.device),  # type: ignore[misc]
            )
            chunks.setdefault(unit.site, []).append(chunk)
        return chunks


def gradient_fault(size: int, answer: object) -> str | None:
    """What is wrong with a reconstructor's answer, which should be one float32 [size]; None: nothing.

    Its values may be anything: those of a model that diverges are not finite, wherever they are computed.
    """
    return None if is_float32(answer, (size,)) else f"{described(answer)} where a gradient of {size} values belongs"
