"""Measuring a checkpoint: its network built again, its data opened again, accuracy and loss without and with noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from glr_dist.config import Config, parse_config, part_of_config
from glr_dist.core.accuracy import clean_accuracy, voted_accuracy
from glr_dist.core.losses import LOSSES
from glr_dist.core.noise import GeneratorSource
from glr_dist.core.sites import find_sites
from glr_dist.data import builtin
from glr_dist.data.dataset import DataConfig, open_dataset
from glr_dist.data.source import DataSource, check_split
from glr_dist.engine.driver import EVALUATION_BATCH
from glr_dist.engine.preparation import fixed_threads
from glr_dist.engine.provenance import load_weights
from glr_dist.errors import UserError, nearest
from glr_dist.models.spec import ModelConfig, build_model, refuse_untrusted
from glr_dist.store.checkpoint import FOLDER, Checkpoint, load_checkpoint
from glr_dist.store.rundir import CONFIG, open_run
from glr_dist.store.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured; the keys of ``glr-dist evaluate --json``.

    Attributes:
        checkpoint: its folder.
        dataset: the data set's name.
        split: test, validation or train.
        n: examples.
        accuracy: share of right classes without noise, in [0, 1].
        loss: mean loss without noise.
        loss_name: which loss that is.
        params_sha256: of the parameters.
        votes: noisy passes per example; this and what follows is None when there were none.
        noisy_accuracy: share of right classes by the mean probability of the noisy passes.
        noisy_loss: mean loss over the noisy passes.
    """

    checkpoint: str
    dataset: str
    split: str
    n: int
    accuracy: float
    loss: float
    loss_name: str
    params_sha256: str
    votes: int | None = None
    noisy_accuracy: float | None = None
    noisy_loss: float | None = None


def evaluate(
    checkpoint: str | Path,
    *,
    dataset: str | None = None,
    data_root: str | None = None,
    split: str = "test",
    votes: int = 0,
    trust_model: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Accuracy and loss of a checkpoint's network.

    Args:
        checkpoint: a checkpoint's folder, or a run's, which means its newest one.
        dataset: a data set's name; None: what it was trained on.
        data_root: the data's folder; None: the run's.
        split: test, validation or train.
        votes: noisy passes per example, with the noise of the training at all sites at once; 0: none.
        trust_model: whether code that the checkpoint names (``model.factory``) may be imported.
        say: told in a line what the reader of the result should know.

    Raises:
        UserError: when there is no sound checkpoint or no such data, or they don't go together.
    """
    check_split(split)
    loaded = load_checkpoint(checkpoint)
    meta = loaded.meta
    config = _run_config(loaded)
    data = open_dataset(_data_config(loaded, config, dataset, data_root))
    _refuse_other_data(loaded, data)
    if not data.count(split):
        raise UserError(f"--split {split}: {data.name} has no such rows; choose another split")
    if dataset is None and data.fingerprint != meta["data"]["fingerprint"]:
        say(f"note: {data.name} is not what {loaded.place} was trained on (the fingerprints differ)")
    model = _model(loaded, trust_model)
    loss_name = meta["loss"] if meta["loss"] in LOSSES else "cross-entropy"
    if loss_name != meta["loss"]:
        say(f"note: it was trained with a loss that Python code gave; the loss here is {loss_name}")
    loss = LOSSES[loss_name]

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return data.batches(split, EVALUATION_BATCH)

    # as many threads as the run had: the bits of a Heaviside unit can depend on it
    with fixed_threads(config.engine.threads if config else 1):
        clean = clean_accuracy(model, loss, batches())
        result = Evaluation(
            checkpoint=loaded.place,
            dataset=data.name,
            split=split,
            n=clean.n,
            accuracy=clean.accuracy,
            loss=clean.loss,
            loss_name=loss_name,
            params_sha256=meta["params_sha256"],
        )
        if not votes:
            return result
        sites = find_sites(model, data.shape, meta["estimator"]["sites"])
        source = GeneratorSource(meta["noise"]["family"])
        noisy = voted_accuracy(model, sites, source, meta["noise"]["scale"], votes, loss, batches(), meta["seed"])
    return dataclasses.replace(result, votes=votes, noisy_accuracy=noisy.accuracy, noisy_loss=noisy.loss)


def _run_config(checkpoint: Checkpoint) -> Config | None:
    """The config of the run that the checkpoint lies in, if it does."""
    above = Storage.at(checkpoint.path).parent()
    run = above.parent()
    if above.name != FOLDER or not run.exists(CONFIG):
        return None
    _, text = open_run(run.uri)
    return parse_config(text, source=str(run.folder(CONFIG)))


def _data_config(
    checkpoint: Checkpoint, config: Config | None, dataset: str | None, data_root: str | None
) -> DataConfig:
    """The data to open: the run's, or another set cut and shown in the same way."""
    about = checkpoint.meta["data"]
    names = (*builtin.NAMES, "parquet")
    if dataset is not None and dataset not in names:
        raise UserError(f"--dataset {dataset!r}: unknown; {nearest(dataset, names)}")
    # a config says nothing about data that Python code gave; a folder of shards has a name of its own
    if config is not None and config.data.name in (about["name"], "parquet"):
        known = config.data
    elif dataset is not None or about["name"] in builtin.NAMES:
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


def _refuse_other_data(checkpoint: Checkpoint, data: DataSource) -> None:
    shape, classes = tuple(checkpoint.meta["shape"]), len(checkpoint.meta["classes"])
    if data.shape != shape:
        raise UserError(
            f"--dataset {data.name}: its examples have shape {list(data.shape)}, the checkpoint takes {list(shape)};"
            " choose other data"
        )
    if len(data.classes) != classes:
        raise UserError(
            f"--dataset {data.name}: it has {len(data.classes)} classes, the checkpoint knows {classes}; choose other data"
        )


def _model(checkpoint: Checkpoint, trust_model: bool) -> nn.Module:
    described = checkpoint.meta["model"]
    if described["kind"] == "custom":
        raise UserError(
            f"{checkpoint.place}: its model was built by Python code; load it there:"
            f" model.load_state_dict(glr_dist.store.load_checkpoint({checkpoint.place!r}).weights)"
        )
    refuse_untrusted(described["kind"], described.get("factory", ""), checkpoint.place, trust_model)
    config: ModelConfig = part_of_config(ModelConfig, described, "model.")
    meta = checkpoint.meta
    model = build_model(config, meta["shape"], len(meta["classes"]), meta["seed"])
    load_weights(model, checkpoint)
    return model
