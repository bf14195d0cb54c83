"""The end of a run: its networks, the last and the best, are measured, and result.json is written."""

from __future__ import annotations

import copy
import dataclasses
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

from torch import nn

from glr_dist.core.losses import Loss
from glr_dist.core.prediction import EVALUATION_BATCH, Accuracy, clean_accuracy
from glr_dist.data.source import DataSource
from glr_dist.engine.callbacks import TrainResult
from glr_dist.engine.crew import Crew
from glr_dist.engine.driver import Driver
from glr_dist.errors import UserError
from glr_dist.models.spec import load_weights
from glr_dist.runs.card import RunCard
from glr_dist.runs.machine import this_machine
from glr_dist.runs.result import measured, read_result, write_result
from glr_dist.runs.run import RunStore
from glr_dist.store.places import without_password
from glr_dist.store.storage import Storage

SPLITS = ("validation", "test")  # that a run is measured on at its end


def conclude(driver: Driver, crew: Crew, card: RunCard, *, journal: bool, command: str | None) -> TrainResult:
    """Measure what a run has come to and write its result.json; ``command`` is what was typed, None: this process's."""
    found = {split: driver.measure(split) for split in SPLITS}
    best = _best(driver, found)
    clock = driver.clock
    result = TrainResult(
        run=str(driver.run),
        checkpoint=str(Storage.at(driver.checkpoint_path)),
        steps=driver.step,
        seconds=clock.seconds,
        test_accuracy=_accuracy(found["test"]),
        validation_accuracy=_accuracy(found["validation"]),
        test_loss=_loss(found["test"]),
        validation_loss=_loss(found["validation"]),
        best_checkpoint=None if best is None else best["checkpoint"],
        best_validation_accuracy=None if best is None else best["validation"]["accuracy"],
        best_test_accuracy=None if best is None or best["test"] is None else best["test"]["accuracy"],
        ended_by=driver.ended_by,
        noisy_forwards=clock.noisy_forwards,
        noisy_forwards_per_second=clock.noisy_forwards / max(clock.seconds, 1e-9),
        bytes_up=clock.bytes_up,
        bytes_down=clock.bytes_down,
        params_sha256=driver.trainer.params_sha256(),
        workers=crew.workers,
        workers_lost=crew.workers_lost,
        journal=journal,
    )
    said = dataclasses.asdict(result)
    for key in (
        "test_accuracy",
        "validation_accuracy",
        "test_loss",
        "validation_loss",
        *(key for key in said if key.startswith("best_")),
    ):
        del said[key]
    classes = driver.task.data.classes
    measures: dict[str, Any] = {split: measured(accuracy, classes) for split, accuracy in found.items()}
    write_result(driver.run, said | measures | {"best": best} | _about(driver, card, command))
    return result


def recorded_result(run: RunStore) -> TrainResult | None:
    """What a run said at its end, where it had done all its steps; None where there is something left to do."""
    try:
        said = read_result(run.folder)
        if said is None or said["ended_by"] != "steps" or said["steps"] != run.steps()[-1]:
            return None
        best = said["best"] or {}
        told: dict[str, Any] = {
            **{f"{split}_{what}": (said[split] or {}).get(what) for split in SPLITS for what in ("accuracy", "loss")},
            **{f"best_{split}_accuracy": (best.get(split) or {}).get("accuracy") for split in ("validation", "test")},
            "best_checkpoint": best.get("checkpoint"),
        }
        names = [each.name for each in dataclasses.fields(TrainResult)]
        return TrainResult(**{name: told[name] if name in told else said[name] for name in names})
    except (UserError, AttributeError, LookupError, TypeError):
        return None  # it can be measured again


def _about(driver: Driver, card: RunCard, command: str | None) -> dict[str, Any]:
    """Where the figures come from."""
    schedule = driver.config.schedule
    return {
        "legs": [*schedule.legs, driver.config.steps],
        "config_sha256": card.config_sha256,
        "data": {"name": card.data.name, "fingerprint": card.data.fingerprint},
        "initial": card.initial,
        "command": command or typed(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": this_machine(),
        "versions": dict(card.versions),
    }


def typed() -> str:
    """The command line of this process, without passwords."""
    return shlex.join(without_password(argument) for argument in sys.orig_argv)


def _accuracy(found: Accuracy | None) -> float | None:
    return None if found is None else found.accuracy


def _loss(found: Accuracy | None) -> float | None:
    return None if found is None else found.loss


def _best(driver: Driver, last: dict[str, Accuracy | None]) -> dict[str, Any] | None:
    """The best checkpoint by validation, measured; None where there is none, or it can't be read any more."""
    step, task = driver.best.step, driver.task
    if step is None:
        return None
    if step == driver.step:
        place, found = str(Storage.at(driver.checkpoint_path)), last
    else:
        try:
            checkpoint = RunStore(driver.run).checkpoint(step)
        except UserError:
            return None
        model = copy.deepcopy(task.model)
        load_weights(model, checkpoint.weights, checkpoint.place)
        place = checkpoint.place
        found = {split: measure(model, task.loss, task.data, split) for split in ("validation", "test")}
    said = {split: measured(accuracy, task.data.classes) for split, accuracy in found.items()}
    return None if said["validation"] is None else {"step": step, "checkpoint": place, **said}


def measure(model: nn.Module, loss: Loss, data: DataSource, split: str) -> Accuracy | None:
    """Accuracy of a network without noise on a split; None where there is no such split."""
    return clean_accuracy(model, loss, data.batches(split, EVALUATION_BATCH)) if data.count(split) else None
