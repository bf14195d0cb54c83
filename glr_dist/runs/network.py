"""The one door from a checkpoint to its network and its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from glr_dist.config import Config
from glr_dist.core.losses import Loss, named_loss
from glr_dist.core.own_code import is_own, refuse_untrusted
from glr_dist.data.config import NAMES, DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError, nearest
from glr_dist.models.spec import build_model, load_weights, refuse_other_weights
from glr_dist.runs.card import RunCard
from glr_dist.runs.run import CONFIG, RunStore
from glr_dist.store.checkpoint import FOLDER, Checkpoint, load_checkpoint
from glr_dist.store.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a checkpoint says of itself."""

    place: str  # its folder, for people to read
    step: int  # optimizer steps done
    params_sha256: str
    card: RunCard
    config: Config | None  # of the run that it lies in; None: it lies in none
    code: Path | None = None  # the folder with that run's copy of the user's own code

    def open_data(
        self,
        dataset: str | None = None,
        data_root: str | None = None,
        say: Callable[[str], None] = lambda line: None,
        trust_model: bool = False,
    ) -> DataSource:
        """The data that it was trained on, or another set cut and shown in the same way; None: as in the training.

        ``say`` is told when what should be the data of the training has another content.

        Raises:
            UserError: when there are no such data, or the network can't take them; or they are made by code that the run
                names, and nobody trusts it (``trust_model``).
        """
        config = self._data_config(dataset, data_root)
        refuse_untrusted([config.factory] if config.name == "factory" else [], self.place, trust_model)
        data = open_dataset(config, self.code and self.code / "data")
        self.refuse_misfit(data)
        if dataset is None:
            self.note_other_content(data, say)
        elif tuple(data.classes) != self.card.classes:
            say(
                f"warning: {self.place} was trained to tell {_few(self.card.classes)}, and {data.name} holds"
                f" {_few(data.classes)}: an accuracy on it means nothing"
            )
        return data

    def loss(self, trust_model: bool = False) -> Loss | None:
        """The loss that it was trained with; None: Python code gave it.

        Raises:
            UserError: when that is code of the user's own, and not trusted, or not to be had.
        """
        name = self.card.loss
        if name is None:
            return None
        refuse_untrusted([name] if is_own(name) else [], self.place, trust_model)
        return named_loss(name, self.code and self.code / "loss")

    def refuse_misfit(self, data: DataSource) -> None:
        """Refuse data of another shape or with another number of classes than the network has.

        Raises:
            UserError: naming both.
        """
        shape, classes = self.card.shape, len(self.card.classes)
        if tuple(data.shape) != shape:
            raise UserError(
                f"--dataset {data.name}: its examples have shape {list(data.shape)}, the checkpoint {self.place}"
                f" takes {list(shape)}; choose other data"
            )
        if len(data.classes) != classes:
            raise UserError(
                f"--dataset {data.name}: it has {len(data.classes)} classes, the checkpoint {self.place} knows"
                f" {classes}; choose other data"
            )

    def note_other_content(self, data: DataSource, say: Callable[[str], None]) -> None:
        """Say so when data are not what it was trained on."""
        if data.fingerprint != self.card.data.fingerprint:
            say(f"note: {data.name} is not what {self.place} was trained on (the fingerprints differ)")

    def _data_config(self, dataset: str | None, data_root: str | None) -> DataConfig:
        about, config = self.card.data, self.config
        names = (*NAMES, "parquet", "files")
        if dataset is not None and dataset not in names:
            raise UserError(f"--dataset {dataset!r}: unknown; {nearest(dataset, names)}")
        # a config says nothing about data that Python code gave; a folder of shards has a name of its own
        if config is not None and config.data.name in (about.name, "parquet", "files", "factory"):
            known = config.data
        elif dataset is not None or about.name in NAMES:
            cut = {key: getattr(about, key) for key in ("resize", "validation", "shards")}
            known = DataConfig(name=dataset or about.name, **cut)
        else:
            raise UserError(
                f"{self.place}: was trained on {about.name!r}, which is no named data set;"
                " name one with --dataset, or --dataset parquet --data-root DIR"
            )
        if dataset is not None and dataset != known.name:
            known = dataclasses.replace(known, name=dataset, root="")
        return known if data_root is None else dataclasses.replace(known, root=data_root)


@dataclass(frozen=True, kw_only=True)
class Network(Origin):
    """A checkpoint's network."""

    model: nn.Module = field(repr=False)  # with the checkpoint's weights, in eval mode, on the CPU


def _few(classes: Sequence[str]) -> str:
    """Some names of classes."""
    return ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")


def read_origin(place: str | Path) -> Origin:
    """What a checkpoint, or a run's newest one, says of itself; no network is built.

    Raises:
        CheckpointError: there is no sound one.
    """
    return _origin(load_checkpoint(place, training=False))


def open_network(
    place: str | Path,
    data: DataSource | None = None,
    *,
    model: nn.Module | None = None,
    trust_model: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Network:
    """A checkpoint's network with its weights.

    Args:
        place: a checkpoint's folder, or a run's, which means its newest one.
        data: what it will see; None: nothing is known of it.
        model: takes the weights, in place of a network built from what the checkpoint says.
        trust_model: whether code that the checkpoint names (``model.factory``) may be imported.
        say: told when it was trained on other data.

    Raises:
        UserError: there is no sound checkpoint, it takes other data, or its network can't be built from what it says.
    """
    checkpoint = load_checkpoint(place, training=False)
    origin = _origin(checkpoint)
    if data is not None:
        origin.refuse_misfit(data)
        origin.note_other_content(data, say)
    network = _built(origin, checkpoint.weights, trust_model) if model is None else model
    load_weights(network, checkpoint.weights, checkpoint.place)
    return Network(**{each.name: getattr(origin, each.name) for each in dataclasses.fields(origin)}, model=network)


def _origin(checkpoint: Checkpoint) -> Origin:
    above = Storage.at(checkpoint.path).parent()
    run = above.parent()
    lies_in_run = above.name == FOLDER and run.exists(CONFIG)
    card = RunCard.read(checkpoint.meta, checkpoint.place)
    return Origin(
        place=checkpoint.place,
        step=checkpoint.step,
        params_sha256=checkpoint.meta["params_sha256"],
        card=card,
        config=RunStore(run).config() if lies_in_run else None,
        code=RunStore(run).code(card) if lies_in_run else None,
    )


def _built(origin: Origin, weights: Mapping[str, Tensor], trust_model: bool) -> nn.Module:
    """The network that it describes, once that has proved to be the weights'."""
    card = origin.card
    if card.model is None:
        raise UserError(
            f"{origin.place}: its model was built by Python code; give it there:"
            f" glr_dist.runs.network.open_network({origin.place!r}, model=...)"
        )
    refuse_untrusted([card.model.factory] if card.model.kind == "factory" else [], origin.place, trust_model)
    described = card.model, card.shape, len(card.classes), card.seed, origin.code and origin.code / "model"
    if card.model.kind != "factory":  # a description can ask for any size: what has none takes no memory
        with torch.device("meta"):
            refuse_other_weights(build_model(*described), weights, origin.place)
    return build_model(*described)
