"""From a checkpoint's folder back to its network and its data."""

from __future__ import annotations

from glr_dist.data.config import NAMES
import dataclasses
from collections.abc import Callable

from torch import nn

from glr_dist.config import (Config, parse_config)
from glr_dist.settings import build
from glr_dist.data import builtin
from glr_dist.data.dataset import open_dataset
from glr_dist.data.config import DataConfig
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError, nearest
from glr_dist.models.spec import (build_model, refuse_untrusted)
from glr_dist.models.config import ModelConfig
from glr_dist.models.weights import load_weights
from glr_dist.store.checkpoint import FOLDER, Checkpoint
from glr_dist.runs.run import CONFIG, open_run
from glr_dist.store.storage import Storage


def run_config(checkpoint: Checkpoint) -> Config | None:
    """The config of the run that a checkpoint lies in, if it does.

    Raises:
        UserError: when there is one, and it can't be read.
    """
    above = Storage.at(checkpoint.path).parent()
    run = above.parent()
    if above.name != FOLDER or not run.exists(CONFIG):
        return None
    _, text = open_run(run.uri)
    return parse_config(text, source=str(run.folder(CONFIG)))


def checkpoint_data(
    checkpoint: Checkpoint, config: Config | None, dataset: str | None, data_root: str | None
) -> DataSource:
    """Open the data that a checkpoint was trained on, or another set cut and shown in the same way.

    Args:
        checkpoint: the checkpoint.
        config: of its run, or None.
        dataset: a data set's name; None: what it was trained on.
        data_root: the data's folder; None: the run's.

    Raises:
        UserError: when there are no such data, or the network can't take them.
    """
    data = open_dataset(_data_config(checkpoint, config, dataset, data_root))
    refuse_misfit(checkpoint, data)
    return data


def refuse_misfit(checkpoint: Checkpoint, data: DataSource) -> None:
    """Refuse data of another shape or with another number of classes than a checkpoint's network has.

    Raises:
        UserError: naming both.
    """
    shape, classes = tuple(checkpoint.meta["shape"]), len(checkpoint.meta["classes"])
    if data.shape != shape:
        raise UserError(
            f"--dataset {data.name}: its examples have shape {list(data.shape)}, the checkpoint {checkpoint.place}"
            f" takes {list(shape)}; choose other data"
        )
    if len(data.classes) != classes:
        raise UserError(
            f"--dataset {data.name}: it has {len(data.classes)} classes, the checkpoint {checkpoint.place} knows"
            f" {classes}; choose other data"
        )


def note_other_content(checkpoint: Checkpoint, data: DataSource, say: Callable[[str], None]) -> None:
    """Say so when data are not what a checkpoint was trained on."""
    if data.fingerprint != checkpoint.meta["data"]["fingerprint"]:
        say(f"note: {data.name} is not what {checkpoint.place} was trained on (the fingerprints differ)")


def checkpoint_model(checkpoint: Checkpoint, trust_model: bool) -> nn.Module:
    """A checkpoint's network with its weights, in eval mode.

    Args:
        checkpoint: the checkpoint.
        trust_model: whether code that it names (``model.factory``) may be imported.

    Raises:
        UserError: when it can't be built from what the checkpoint says.
    """
    meta = checkpoint.meta
    described = meta["model"]
    if described["kind"] == "custom":
        raise UserError(
            f"{checkpoint.place}: its model was built by Python code; load it there:"
            f" model.load_state_dict(glr_dist.store.load_checkpoint({checkpoint.place!r}).weights)"
        )
    refuse_untrusted(described["kind"], described.get("factory", ""), checkpoint.place, trust_model)
    config: ModelConfig = build(ModelConfig, described, "model.")
    model = build_model(config, meta["shape"], len(meta["classes"]), meta["seed"])
    load_weights(model, checkpoint.weights, checkpoint.place)
    return model


def _data_config(
    checkpoint: Checkpoint, config: Config | None, dataset: str | None, data_root: str | None
) -> DataConfig:
    """The data to open: the run's, or another set cut and shown in the same way."""
    about = checkpoint.meta["data"]
    names = (*NAMES, "parquet")
    if dataset is not None and dataset not in names:
        raise UserError(f"--dataset {dataset!r}: unknown; {nearest(dataset, names)}")
    # a config says nothing about data that Python code gave; a folder of shards has a name of its own
    if config is not None and config.data.name in (about["name"], "parquet"):
        known = config.data
    elif dataset is not None or about["name"] in NAMES:
        cut = {key: about[key] for key in ("resize", "validation", "shards")}
        known = DataConfig(name=dataset or about["name"], **cut)
    else:
        raise UserError(
            f"{checkpoint.place}: was trained on {about['name']!r}, which is no named data set;"
            " name one with --dataset, or --dataset parquet --data-root DIR"
        )
    if dataset is not None and dataset != known.name:
        known = dataclasses.replace(known, name=dataset, root="")
    return known if data_root is None else dataclasses.replace(known, root=data_root)
