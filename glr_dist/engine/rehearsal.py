"""What would fail after hours is tried before the first step: what the Python door was handed, loss and checkpoint."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from glr_dist.config import Config, config_toml, load_config, parse_config
from glr_dist.core.device import found_device
from glr_dist.core.losses import Loss, check_losses, per_batch
from glr_dist.core.passes import whole_loss
from glr_dist.data.source import DataSource
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.trainer import Trainer
from glr_dist.errors import UserError, blamed
from glr_dist.store.checkpoint import load_checkpoint, save_checkpoint
from glr_dist.store.storage import Storage

_ROWS = 8


def chosen_config(given: Any) -> Config:
    """The config that ``glr_dist.train`` is given, or that a preset's name or a file's path means; its device is settled.

    Raises:
        UserError: for anything else, or when there is no such device.
    """
    if isinstance(given, (str, os.PathLike)):
        given = load_config(os.fspath(given))
    if not isinstance(given, Config):
        raise UserError(
            f"config: is {_described(given)}; give a preset's name, a .toml file, or what glr_dist.load_config(PRESET,"
            " {KEY: VALUE}) returns"
        )
    engine = dataclasses.replace(given.engine, device=_settled(given.engine))
    return dataclasses.replace(given, engine=engine)


def _settled(engine: EngineConfig) -> str:
    """Where actors do the work, this process has no need of a GPU."""
    others = engine.workers > 0 or engine.reconstructors or engine.generators or engine.gpus_per_worker
    return "cpu" if others and engine.device == "auto" else found_device(engine.device)


def refuse_strangers(model: Any, data: Any, loss: Any) -> None:
    """Raise UserError for a model, data or loss of a type that can't be trained with; None is what the config describes."""
    if model is not None and not isinstance(model, nn.Module):
        hint = f", such as {model.__name__}()" if isinstance(model, type) and issubclass(model, nn.Module) else ""
        raise UserError(f"model: is {_described(model)}; give an instance of torch.nn.Module{hint}")
    if data is not None and not isinstance(data, DataSource):
        how = "glr_dist.ArrayDataset(train=(x, y), test=(x, y))"
        if isinstance(getattr(data, "dataset", data), torch.utils.data.Dataset):
            name = "data" if isinstance(data, torch.utils.data.Dataset) else "data.dataset"
            how = f"glr_dist.data.arrays.from_torch({name}), or {how}"
        raise UserError(f"data: is {_described(data)}; give {how}")
    if loss is not None and not callable(loss):
        raise UserError(
            f"loss: is {_described(loss)}; give a function of logits and labels, or set the config's loss to"
            " 'cross-entropy' or 'zero-one'"
        )


def _described(thing: Any) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"


def first_rows(data: DataSource) -> tuple[Tensor, Tensor]:
    """Some training examples to try a network with, [B, ...], and their labels, [B]; few data give some of them twice."""
    return data.first(_ROWS)


@torch.no_grad()
def refuse_bad_loss(loss: Loss, model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Raise UserError for a loss that raises, or returns anything but one value per example."""
    logits = model(x.clone())
    try:
        if per_batch(loss):
            whole_loss(loss, logits, labels)
            return
        losses = loss(logits, labels)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"loss: raised {blamed(error)}") from error
    if not isinstance(losses, Tensor):
        raise UserError(
            f"loss: returned a {type(losses).__name__}; a loss must return a tensor, one value per example, shape"
            f" ({len(x)},)"
        )
    check_losses(losses.float().unsqueeze(0), (1, len(x)), "a trial before the first step")


def try_checkpoint(config: Config, trainer: Trainer) -> None:
    """Save what a run is made of in a scratch folder, and load it again.

    Raises:
        UserError: when it can't be, or is another then.
    """
    if parse_config(config_toml(config)) != config:
        raise UserError("config: is not the same once it was written to config.toml and read; give plain values")
    weights = trainer.model.state_dict()
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"model: its state holds {name!r} of type {type(value).__name__}, and a checkpoint holds tensors alone; keep"
                " it in a buffer"
            )
    state = trainer.state()
    with tempfile.TemporaryDirectory(prefix="glr-dist-") as scratch:
        run = Storage.at(scratch)
        try:
            save_checkpoint(run, step=0, weights=weights, training=state, meta={})
            found = load_checkpoint(run).weights
            trainer.model.load_state_dict(dict(found))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"model: a checkpoint of it can't be saved and loaded again: {blamed(error)}") from error
