"""Measuring a checkpoint: its network built again, its data opened again, accuracy and loss without and with noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from glr_dist.core.losses import Loss, cross_entropy
from glr_dist.core.prediction import EVALUATION_BATCH, VOTE_BATCH, Accuracy, Voter, clean_accuracy, voted_accuracy
from glr_dist.core.probing import find_sites
from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource, check_split
from glr_dist.errors import UserError
from glr_dist.robustness.subjects import refuse_votes
from glr_dist.runs.network import Network, open_network


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured; the keys of ``glr-dist evaluate --json``."""

    checkpoint: str  # its folder
    dataset: str
    split: str
    n: int  # examples
    accuracy: float | None  # share of right classes without noise, in [0, 1]
    loss: float  # mean, without noise
    loss_name: str
    params_sha256: str
    votes: int | None = None  # noisy passes per example; this and what follows is None when there were none
    noisy_accuracy: float | None = None  # share of right classes by the mean probability of the noisy passes
    noisy_loss: float | None = None  # mean over the noisy passes


def evaluate(
    checkpoint: str | Path,
    *,
    dataset: str | None = None,
    data_root: str | None = None,
    split: str = "test",
    votes: int = 0,
    seed: int = 0,
    trust_model: bool = False,
    data: DataSource | None = None,
    model: nn.Module | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Accuracy and loss of a checkpoint's network.

    Args:
        checkpoint: a checkpoint's folder, or a run's, which means its newest one.
        dataset: a data set's name; None: what it was trained on.
        data_root: the data's folder; None: the run's.
        split: test, validation or train.
        votes: noisy passes per example, with the noise of the training at all sites at once; 0: none.
        seed: of that noise.
        trust_model: whether code that the checkpoint names (``model.factory``) may be imported.
        data: in place of a data set's name and folder.
        model: takes the weights, where Python code gave the run its model.
        say: told in a line what the reader of the result should know.

    Raises:
        UserError: when there is no sound checkpoint or no such data, they don't go together, or there are no votes.
    """
    check_split(split)
    network = open_network(checkpoint, data, model=model, trust_model=trust_model, say=say)
    if votes:
        refuse_votes(network.card.method, network.place)
    data = data or network.open_data(dataset, data_root, say, trust_model)
    if not data.count(split):
        raise UserError(f"--split {split}: {data.name} has no such rows; choose another split")
    loss_name, loss = network.card.loss or "cross-entropy", network.loss(trust_model) or cross_entropy
    if network.card.loss is None:
        say(f"note: it was trained with a loss that Python code gave; the loss here is {loss_name}")
    # as many threads as the run had: the bits of a Heaviside unit can depend on it
    with fixed_threads(network.config.engine.threads if network.config else 1):
        clean = clean_accuracy(network.model, loss, data.batches(split, EVALUATION_BATCH))
        noisy = _voted(network, data, split, votes, loss, seed) if votes else None
    return Evaluation(
        checkpoint=network.place,
        dataset=data.name,
        split=split,
        n=clean.n,
        accuracy=clean.accuracy,
        loss=clean.loss,
        loss_name=loss_name,
        params_sha256=network.params_sha256,
        votes=votes or None,
        noisy_accuracy=None if noisy is None else noisy.accuracy,
        noisy_loss=None if noisy is None else noisy.loss,
    )


def _voted(network: Network, data: DataSource, split: str, votes: int, loss: Loss, seed: int) -> Accuracy:
    """Accuracy and loss of a network's noisy passes."""
    sites = find_sites(network.model, data.shape, network.card.estimator.sites, data.first(3)[0])
    voter = Voter(model=network.model, sites=sites, noise=network.card.noise)
    return voted_accuracy(voter, votes, loss, data.batches(split, VOTE_BATCH), seed)
