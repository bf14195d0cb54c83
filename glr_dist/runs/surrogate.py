"""The fixed network that adversarial rows are made on: a checkpoint whose network has a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.runs.network import checkpoint_model
from glr_dist.store.checkpoint import CheckpointError, load_checkpoint

_BUILT_HERE = ("mlp", "conv")  # kinds that need no code but this package's


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A surrogate; travels to every actor once, with the task.

    Attributes:
        model: the network, on the CPU.
        place: its checkpoint.
        params_sha256: of its parameters.
        described: its checkpoint's description of the network.
    """

    model: nn.Module
    place: str
    params_sha256: str
    described: Mapping[str, Any]


def load_surrogate(place: str, data: DataSource) -> Surrogate:
    """A checkpoint's network as a surrogate for some data; no code is imported for it.

    Args:
        place: the checkpoint's folder, or a run's, which means its newest one.
        data: what is trained on.

    Raises:
        UserError: when there is no sound checkpoint, it needs foreign code, or takes other inputs or classes.
    """
    try:
        checkpoint = load_checkpoint(place)
    except CheckpointError as error:
        raise UserError(f"--surrogate: {error}") from error
    meta = checkpoint.meta
    kind = meta["model"]["kind"]
    if kind not in _BUILT_HERE:
        raise UserError(
            f"--surrogate {checkpoint.place}: its network is of kind {kind!r}, built by code outside this package; use a run"
            f" with model.kind = {' or '.join(map(repr, _BUILT_HERE))}"
        )
    for thing, theirs, ours in (
        ("inputs of shape", list(meta["shape"]), list(data.shape)),
        ("a number of classes of", len(meta["classes"]), len(data.classes)),
        ("classes", meta["classes"], list(data.classes)),  # Fashion-MNIST's fit on MNIST's, and tell nothing of them
    ):
        if theirs != ours:
            raise UserError(
                f"--surrogate {checkpoint.place}: has {thing} {theirs}, the training data {ours}; use a run on such data"
            )
    model = checkpoint_model(checkpoint, trust_model=False)
    return Surrogate(model=model, place=checkpoint.place, params_sha256=meta["params_sha256"], described=meta["model"])
