"""What a run's files claim, against what its replay gives: metrics line by line, checkpoints, and where they come from.

A finding is a line that names the file and what in it is wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from glr_dist import __version__
from glr_dist.core.prediction import EVALUATION_BATCH, clean_accuracy
from glr_dist.engine.config import AugmentConfig
from glr_dist.engine.driver import Clock
from glr_dist.engine.placed import StepResult
from glr_dist.engine.replayer import Replayer
from glr_dist.errors import UserError
from glr_dist.runs.card import RunCard
from glr_dist.store.metrics import NAME, read_metrics


class Audit:
    """Goes along with a replay from step to step, and keeps what it finds.

    Attributes:
        findings: a line each.
        compared: the steps whose checkpoint is what the replay gives, and was written of this run.
    """

    def __init__(self, replayer: Replayer) -> None:
        self.findings: list[str] = []
        self.compared: list[int] = []
        self._replayer = replayer
        self._told = self._metrics()
        self._begun = replayer.run.begun()
        if replayer.card is not None:
            self.findings += _card_findings(replayer, replayer.card, "provenance.json")

    def step(self, result: StepResult) -> None:
        """Look at what the run says of the step that the replay has just done."""
        step = self._replayer.trainer.step
        line = self._told.pop(step, None)
        if line is None:
            self.findings.append(f"{NAME} says nothing of step {step}")
        else:
            self.findings += [f"{NAME}, step {step}: {said}" for said in self._line_findings(line, result)]
        self.checkpoint()

    def checkpoint(self) -> None:
        """Look at the checkpoint of the step that the replay is at, if there is one."""
        step = self._replayer.trainer.step
        if step not in self._begun:
            return
        try:
            found = list(self._checkpoint_findings(step))
        except UserError as error:
            found = [str(error)]
        self.findings += found
        self.compared += [] if found else [step]

    def end(self) -> None:
        """Look at what lies beyond the step that the replay has come to in the end: nothing vouches for it."""
        last, planned = self._replayer.trainer.step, self._replayer.config.steps
        if last > planned:
            self.findings.append(f"the journal has {last} steps, the run's config {planned}")
        self.findings += [
            f"the checkpoint of step {step} lies beyond the journal, which ends at step {last}: it is not covered"
            for step in self._begun
            if step > last
        ]

    def _metrics(self) -> dict[int, Mapping[str, Any]]:
        """The lines of figures by step."""
        told: dict[int, Mapping[str, Any]] = {}
        try:
            lines = read_metrics(self._replayer.run.folder)
        except UserError as error:
            self.findings.append(str(error))
            return told
        for number, line in enumerate(lines, 1):
            step = line.get("step")
            if "lr" not in line and any(key.startswith("evaluation_") for key in line):
                continue  # found beside the run, whenever it came
            if not isinstance(step, int) or step in told:
                self.findings.append(f"{NAME}, line {number}: step {step!r} is no step, or is told twice")
            else:
                told[step] = line
        return told

    def _line_findings(self, line: Mapping[str, Any], result: StepResult) -> Iterator[str]:
        trainer, task = self._replayer.trainer, self._replayer.task
        expected: dict[str, Any] = {
            "loss": result.loss,
            "lr": trainer.lr,
            "noisy_forwards": trainer.step * task.plan.noisy_forwards_per_step,
        }
        if {"validation_accuracy", "validation_loss"} & set(line) and task.data.count("validation"):
            batches = task.data.batches("validation", EVALUATION_BATCH)
            measured = clean_accuracy(trainer.model, task.loss, batches)
            found = {"validation_accuracy": measured.accuracy, "validation_loss": measured.loss}
            expected |= {key: value for key, value in found.items() if value is not None}
        for key, exact in expected.items():
            value = exact if exact is None or math.isfinite(exact) else None  # as metrics have it
            if line.get(key) != value:
                yield f"{key} is {line.get(key)!r}, the replay gives {value!r}"

    def _checkpoint_findings(self, step: int) -> Iterator[str]:
        replayer, where = self._replayer, f"the checkpoint of step {step}"
        checkpoint = replayer.run.checkpoint(step)
        if checkpoint.meta["params_sha256"] != replayer.trainer.params_sha256():
            yield f"{where} has other parameters than the replay"
        between = step in replayer.config.schedule.legs  # of which the one was ended, and the next one begun
        if not _alike(_compared(checkpoint.training, between), _compared(replayer.trainer.state(), between)):
            yield f"{where} has another state of the optimizer or its schedule than the replay"
        forwards = step * replayer.task.plan.noisy_forwards_per_step
        if (counted := Clock.of(checkpoint).noisy_forwards) != forwards:
            yield f"{where} counts {counted} noisy forward passes, {forwards} were made"
        yield from _card_findings(replayer, RunCard.read(checkpoint.meta, checkpoint.place), where)


def _card_findings(replayer: Replayer, card: RunCard, where: str) -> Iterator[str]:
    """What a card says of the run that is not so."""
    try:
        card.refuse_other_config(replayer.config, where)
    except UserError as error:
        yield str(error)
    data = replayer.task.data
    # another version may have decided otherwise, and then the bits are those of its decision
    fold = replayer.fold if card.versions.get("glr_dist") == __version__ else replayer.task.fold
    for key, said, is_now in (
        ("shape", card.shape, tuple(data.shape)),
        ("classes", card.classes, tuple(data.classes)),
        ("data", card.data, replayer.data_card),
        ("fold", card.fold, fold),
        ("augment", _without_place(card.augment), _without_place(dataclasses.asdict(replayer.config.augment))),
    ):
        if said != is_now:
            yield f"{where}: {key} is {said!r}, and should be {is_now!r}"


def _compared(training: Mapping[str, Any], between: bool) -> Any:
    """What must be the same of a training state, also where the run was extended after that."""
    optimizer, schedule = training.get("optimizer", {}), training.get("schedule", {})
    return optimizer.get("state") if between else (optimizer, schedule.get("leg", schedule))


def _without_place(augment: Mapping[str, Any]) -> dict[str, Any]:
    every = dataclasses.asdict(AugmentConfig()) | dict(augment)  # an older version knew fewer keys
    return {key: value for key, value in every.items() if key != "surrogate"}


def _alike(one: Any, other: Any) -> bool:
    """Whether two states are the same, bit for bit."""
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        return both and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)
