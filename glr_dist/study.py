"""A run in the hand, from Python: its network, settings and history, and what can be asked of it.

run = glr_dist.load("runs/one")
run.history.plot(x="step", y="validation_accuracy")     # a pandas DataFrame, where pandas is installed
run.predict(images)                                     # [B] classes
run.evaluate().accuracy
run.attack("bpda-pgd", epsilon=0.1, count=200)["worst"]
glr_dist.compare("runs/one", "runs/two")                # a row for each run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.ball import refuse_size
from glr_dist.commands.display import progress_display
from glr_dist.config import Config
from glr_dist.data.source import DataSource
from glr_dist.engine.callbacks import Callback, Progress, TrainResult
from glr_dist.errors import UserError
from glr_dist.reporting.overview import COLUMNS, row_of
from glr_dist.reporting.story import Story, differences, read_stories, read_story
from glr_dist.robustness.evaluation import evaluate_robustness
from glr_dist.robustness.measurement import Evaluation
from glr_dist.robustness.measurement import evaluate as measure
from glr_dist.robustness.report.build import build_report
from glr_dist.robustness.selection import Selection
from glr_dist.robustness.subjects import open_subject
from glr_dist.runs.network import Network, open_network

_BATCH = 1000  # rows of a pass


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A run, or one of its checkpoints.

    Attributes:
        place: the folder that was given.
        model: its network, in eval mode, on the CPU.
        config: its settings.
        step: optimizer steps that the network has done.
        result: what result.json says; None: the run hasn't ended.
    """

    place: str
    model: nn.Module = field(repr=False)
    config: Config = field(repr=False)
    step: int
    result: Mapping[str, Any] | None = field(repr=False)
    _network: Network = field(repr=False)
    _story: Story = field(repr=False)
    _data: DataSource | None = field(repr=False)
    _data_root: str | None = field(repr=False)
    _trust_model: bool = field(repr=False)
    _own_model: bool = field(repr=False)

    @cached_property
    def data(self) -> DataSource:
        """What it was trained on, or what `load` was given; UserError where it can't be found."""
        return self._data or self._network.open_data(None, self._data_root, trust_model=self._trust_model)

    @cached_property
    def history(self) -> Any:
        """The lines of metrics.jsonl by step: a pandas DataFrame where pandas is installed, else a list of dicts."""
        return table(self._story.lines)

    def predict(self, x: ArrayLike | torch.Tensor, *, probabilities: bool = False) -> NDArray[Any]:
        """The classes that the network tells, without noise, as their numbers [B]; or their probabilities [B, C].

        ``x`` holds inputs as those of the training are, [B, ...], or one of them without the B.

        Raises:
            UserError: for inputs of another shape.
        """
        rows = torch.as_tensor(np.asarray(x) if not isinstance(x, torch.Tensor) else x)
        shape = self._network.card.shape
        alone = tuple(rows.shape) == tuple(shape)
        rows = rows[None] if alone else rows
        if tuple(rows.shape[1:]) != tuple(shape):
            raise UserError(f"x: has shape {list(rows.shape)}; the run's inputs are [B, {', '.join(map(str, shape))}]")
        with torch.no_grad():
            logits = torch.cat([self.model(part) for part in rows.float().split(_BATCH)])
        told = logits.softmax(-1) if probabilities else logits.argmax(-1)
        found: NDArray[Any] = told.numpy()
        return found[0] if alone else found

    def evaluate(self, split: str = "test", *, votes: int = 0, seed: int = 0) -> Evaluation:
        """Accuracy and loss on a split, without noise, and by the vote of noisy passes where there are ``votes``."""
        return measure(
            self._network.place,
            split=split,
            votes=votes,
            seed=seed,
            trust_model=self._trust_model,
            data=self.data,
            model=self.model if self._own_model else None,
        )

    def attack(
        self,
        attack: str = "bpda-pgd",
        *,
        epsilon: float | Sequence[float] = 0.1,
        count: int | None = None,
        split: str = "test",
        seed: int = 0,
        **settings: Any,
    ) -> dict[str, Any]:
        """The report of an attack on the network itself, as `glr-dist evaluate --attack` writes it to report.json.

        ``epsilon``: its size, or several. ``count``: samples, chosen by the seed; None: all. ``settings``: of the attack.
        """
        sizes = [float(size) for size in np.atleast_1d(epsilon)]
        for size in sizes:
            refuse_size(size)
        own = self.model if self._own_model else None
        subject = open_subject(self._network.place, self.data, model=own, trust_model=self._trust_model)
        findings = evaluate_robustness(
            [subject],
            self.data,
            attacks=[named_attack(attack, size, **settings) for size in sizes],
            selection=Selection(split=split, count=count, seed=seed),
            seed=seed,
        )
        return build_report(findings)


def load(
    run: str | Path,
    *,
    data: DataSource | None = None,
    data_root: str | None = None,
    model: nn.Module | None = None,
    trust_model: bool = False,
) -> LoadedRun:
    """A run from its folder, which means its newest checkpoint, or a checkpoint from its own.

    Args:
        run: the folder, or a URI.
        data: what was passed to `train`, if it was; else the run's own are opened when they are needed.
        data_root: where the run's own lie now; None: where they lay.
        model: takes the weights, where `train` was given a model.
        trust_model: whether code that the run names may be imported.

    Raises:
        UserError: there is no run or no sound checkpoint, or it can't be built again.
    """
    network = open_network(run, data, model=model, trust_model=trust_model)
    story = read_story(run)
    return LoadedRun(
        place=str(run),
        model=network.model,
        config=story.config,
        step=network.step,
        result=story.result,
        _network=network,
        _story=story,
        _data=data,
        _data_root=data_root,
        _trust_model=trust_model,
        _own_model=model is not None,
    )


def compare(*runs: str | Path) -> Any:
    """A row for each run, of how far it is, what it reached, and the settings in which the runs differ.

    A pandas DataFrame where pandas is installed, else a list of dicts.
    """
    stories = read_stories(runs)
    names = dict.fromkeys(("run", "state", "step", "validation", "test", "seconds", *differences(stories)))
    rows = [row_of(story) for story in stories]
    return table([{name: row.get(name) for name in names if name in row or name in COLUMNS} for row in rows])


def table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame; as a list of dicts where there is no pandas."""
    try:
        import pandas as pd
    except ImportError:
        return [dict(row) for row in rows]
    return pd.DataFrame([dict(row) for row in rows])


class ProgressBar(Callback):
    """Shows how a training goes on: a bar in a notebook or a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._show: Callable[[Progress], None] | None = None

    def on_start(self, run: str, config: Config) -> None:
        """Begin to show."""
        self._show = self._open.enter_context(progress_display())

    def on_step(self, progress: Progress) -> None:
        """Show a step; the last one ends it."""
        if self._show is not None:
            self._show(progress)
            if progress.step == progress.steps:
                self._close()

    def on_end(self, result: TrainResult) -> None:
        """Stop showing."""
        self._close()

    def _close(self) -> None:
        self._open.close()
        self._show = None
