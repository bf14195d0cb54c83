"""What a run and its checkpoints say about where they come from, and putting their state back."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from glr_dist import __version__
from glr_dist.config import Config
from glr_dist.data.source import DataSource
from glr_dist.engine.task import Task
from glr_dist.errors import UserError
from glr_dist.models.weights import load_weights
from glr_dist.store.checkpoint import Checkpoint
from glr_dist.store.storage import Storage

RECORD = "provenance.json"  # in the run's folder, from its first moment on


def run_meta(config: Config, task: Task, *, own_model: bool, own_loss: bool) -> dict[str, Any]:
    """What a run and every checkpoint of it say about themselves."""
    data = task.data
    return {
        "seed": config.seed,
        "method": config.method,
        "loss": "custom" if own_loss else config.loss,
        "model": {"kind": "custom"} if own_model else dataclasses.asdict(config.model),
        "fold": task.fold,
        "shape": list(data.shape),
        "classes": list(data.classes),
        "data": {
            "resize": config.data.resize,
            "validation": config.data.validation,
            "shards": config.data.shards,
            **data_identity(data),
        },
        "noise": dataclasses.asdict(config.noise),
        "estimator": dataclasses.asdict(config.estimator),
        "augment": dataclasses.asdict(config.augment),
        "surrogate": surrogate_identity(task),
        "versions": {
            "glr_dist": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def data_identity(data: DataSource) -> dict[str, Any]:
    """What makes data the same for a run: their content and how it is cut into shards."""
    rows = {split: list(data.sizes(split)) for split in ("train", "validation")}
    return {"name": data.name, "fingerprint": data.fingerprint, "rows": rows}


def surrogate_identity(task: Task) -> dict[str, Any] | None:
    """The network that adversarial rows are made on, by its place and content; None where it is no fixed one."""
    surrogate = task.surrogate
    if surrogate is None:
        return None
    return {"place": surrogate.place, "params_sha256": surrogate.params_sha256, "model": dict(surrogate.described)}


def record(run: Storage, meta: Mapping[str, Any]) -> None:
    """Write what a new run is made of, before there is a checkpoint that says so."""
    run.write(RECORD, json.dumps(meta, indent=1).encode())


def recorded(run: Storage) -> dict[str, Any] | None:
    """What `record` wrote, or None where nothing is."""
    if not run.exists(RECORD):
        return None
    try:
        found: dict[str, Any] = json.loads(run.read(RECORD))
    except ValueError as error:
        raise UserError(f"{run.folder(RECORD)} is damaged: {error}") from error
    return found


def refuse_other(theirs: Mapping[str, Any], ours: Mapping[str, Any], place: str) -> None:
    """Refuse to go on with another model, loss or surrogate, or other data than a run was made of.

    Args:
        theirs: what the run or checkpoint says.
        ours: what was given now.
        place: the run or checkpoint, for the message.

    Raises:
        UserError: naming what differs.
    """
    for thing in ("model", "loss"):
        was_own, is_own = (_own(meta[thing]) for meta in (theirs, ours))
        if was_own != is_own:
            how = f"was given in Python; pass it again: glr_dist.resume(run, {thing}=...)"
            raise UserError(f"{place}: its {thing} {how if was_own else f'is that of its config; leave {thing}= out'}")
    refuse_other_surrogate(theirs, ours, place)
    refuse_other_data(theirs, ours, place)


def refuse_other_surrogate(theirs: Mapping[str, Any], ours: Mapping[str, Any], place: str) -> None:
    """Refuse a surrogate with other parameters: it would make other adversarial rows.

    Raises:
        UserError: naming what differs.
    """
    then, now = theirs.get("surrogate"), ours["surrogate"]
    was, found = ({} if it is None else {k: json.dumps(v) for k, v in it.items() if k != "place"} for it in (then, now))
    if was == found:
        return
    if then is None:
        raise UserError(f"{place}: its adversarial rows were made on the network itself; leave --surrogate out")
    if now is None:
        raise UserError(f"{place}: its adversarial rows were made on another network; give --surrogate {then['place']}")
    raise UserError(
        f"{place}: its surrogate had parameters {then['params_sha256'][:12]}…, {now['place']} has"
        f" {now['params_sha256'][:12]}…; give the one it was trained with (--surrogate): it was {then['place']}"
    )


def refuse_other_data(theirs: Mapping[str, Any], ours: Mapping[str, Any], place: str) -> None:
    """Refuse data with another content, or in other shards: the same examples in other batches give other bits.

    Raises:
        UserError: naming what differs.
    """
    then, now = theirs["data"], ours["data"]
    if then["fingerprint"] != now["fingerprint"]:
        raise UserError(
            f"{place}: was trained on data with fingerprint {then['fingerprint'][:12]}…, this data set has"
            f" {now['fingerprint'][:12]}…; give the data of the run (--data-root)"
        )
    if then["rows"] != now["rows"]:
        raise UserError(
            f"{place}: its data were cut into shards of {then['rows']['train']} training rows, these are"
            f" {now['rows']['train']}; give the very shards of the run (--data-root)"
        )


def _own(described: Any) -> bool:
    return described == "custom" or (isinstance(described, dict) and described["kind"] == "custom")


def restore(
    checkpoint: Checkpoint,
    meta: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Put a checkpoint's state into a fresh model, optimizer and schedule.

    Raises:
        UserError: when the checkpoint is of another model or loss, or of other data.
    """
    load_weights(model, checkpoint.weights, checkpoint.place)
    refuse_other(checkpoint.meta, meta, checkpoint.place)
    optimizer.load_state_dict(checkpoint.training["optimizer"])
    schedule.load_state_dict(checkpoint.training["schedule"])
