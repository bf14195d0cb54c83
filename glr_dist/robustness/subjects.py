"""The networks of an evaluation, under test or as surrogates: who they are, and how they tell the class of an image.

B samples, C classes.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glr_dist.attacks.ball import Logits
from glr_dist.core.prediction import Voter, mean_probability
from glr_dist.core.probing import find_sites
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.methods.method import named_method
from glr_dist.models.config import ModelConfig
from glr_dist.robustness.findings import Identity
from glr_dist.runs.network import Origin, open_network, read_origin


@dataclass(frozen=True, kw_only=True)
class Subject(Identity):
    """A network that can be asked.

    Attributes:
        model: the network, in eval mode, on the CPU.
        voter: the same as one that predicts by votes; None: it was not trained with noise in its neurons.
    """

    model: nn.Module = field(repr=False)
    voter: Voter | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Who it is, as JSON values; a ModelCard adds what was measured."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(Identity)}


def open_subject(
    place: str | Path,
    data: DataSource,
    *,
    name: str = "",
    model: nn.Module | None = None,
    trust_model: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Subject:
    """The network of a checkpoint, or of a run's newest one.

    Args:
        place: its folder.
        data: what it will see.
        model: takes the weights, where Python code gave the run its model.
        name: of its group; "": method, activation, loss and architecture.
        trust_model: whether code that the checkpoint names may be imported.
        say: told when it was trained on other data.

    Raises:
        UserError: when there is no sound checkpoint, or it takes other data.
    """
    network = open_network(place, data, model=model, trust_model=trust_model, say=say)
    card, model = network.card, network.model
    loss = card.loss or "custom"
    activation, architecture = "own", type(model).__name__
    if card.model is not None:
        activation = card.model.activation if card.model.kind != "factory" else "own"
        architecture = _architecture(card.model, card.shape, len(card.classes))
    noises = named_method(card.method).noises
    voter = None
    if noises == "neurons":
        voter = Voter(
            model=model, sites=find_sites(model, data.shape, card.estimator.sites, data.first(3)[0]), noise=card.noise
        )
    return Subject(
        name=name or f"{card.method} {activation} {loss} {architecture}",
        checkpoint=network.place,
        sha256=network.params_sha256,
        method=card.method,
        loss=loss,
        activation=activation,
        architecture=architecture,
        seed=card.seed,
        noise=f"{card.noise.family} {card.noise.scale:g}" if noises != "nothing" else "",
        model=model,
        voter=voter,
    )


def open_subjects(
    places: Sequence[str | Path | tuple[str, str | Path]],
    data: DataSource,
    *,
    trust_model: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Subject]:
    """The networks under test, each with the name of its group: checkpoints' folders, or pairs of a name and a folder.

    Networks without a name of their own that differ in more than their seeds get names apart.

    Raises:
        UserError: as `open_subject`, and when a network is given twice.
    """
    pairs = [place if isinstance(place, tuple) else ("", place) for place in places]
    subjects = [open_subject(place, data, name=name, trust_model=trust_model, say=say) for name, place in pairs]
    for subject in subjects:
        twins = [other.checkpoint for other in subjects if other.sha256 == subject.sha256]
        if len(twins) > 1:
            raise UserError(f"CHECKPOINT {twins[1]}: has the very parameters of {twins[0]}; give each network once")
    unnamed = [subject for (name, _), subject in zip(pairs, subjects, strict=True) if not name]
    clear = {name for name in {subject.name for subject in unnamed} if _seeds_alone(unnamed, name)}
    return [
        subject if given or subject.name in clear else dataclasses.replace(subject, name=_apart(subject))
        for (given, _), subject in zip(pairs, subjects, strict=True)
    ]


def predict(subject: Subject, x: Tensor, *, votes: int, seed: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes that a network tells for ``x`` [B, ...]: [B]; of equal logits the first.

    ``votes`` are noisy passes, 0: one clean pass; ``seed`` and the samples' positions in their split [B] give the noise.
    """
    with torch.no_grad():
        if votes:
            voter = _voter(subject)
            logits = mean_probability(voter.passes(x, voter.noise_of(indices, votes, seed)))
        else:
            logits = subject.model(x)
    classes: NDArray[np.int64] = logits.argmax(-1).numpy()
    return classes


def logits_of(subject: Subject, *, votes: int, seed: np.random.SeedSequence) -> Logits:
    """The network as an attack on it sees it: by the vote of noisy passes with fresh noise at each call; 0: no noise."""
    if not votes:
        return subject.model
    voter = _voter(subject)

    def noisy(x: Tensor) -> Tensor:
        return mean_probability(voter.passes(x, voter.fresh_noise(seed.spawn(1)[0], votes, len(x))))

    return noisy


def refuse_votes(method: str, place: str) -> None:
    """Raise UserError for votes of a network whose method put no noise in its neurons; ``place``: its checkpoint."""
    noises = named_method(method).noises
    if noises != "neurons":
        what = "without noise" if noises == "nothing" else f"with noise in its {noises}, and votes draw it in neurons"
        raise UserError(f"--votes: {place} was trained {what} ({method}); leave it out")


def _voter(subject: Subject) -> Voter:
    assert subject.voter is not None  # `refuse_votes` came first
    return subject.voter


def _architecture(config: ModelConfig, shape: Sequence[int], classes: int) -> str:
    if config.kind == "factory":
        return config.factory
    if config.kind == "conv":
        text = f"conv {'-'.join(map(str, config.channels))} {config.kernel}x{config.kernel}/{config.stride}"
    else:
        text = "mlp " + "-".join(map(str, (int(np.prod(shape)), *config.hidden, classes)))
    return f"{text}, inputs >= {config.input_threshold:g}" if config.input_threshold else text


def _seeds_alone(subjects: Sequence[Subject], name: str) -> bool:
    """Whether networks that would share a name differ in their seeds and in nothing else."""
    members = [subject for subject in subjects if subject.name == name]
    kinds = {_kind(read_origin(member.checkpoint)) for member in members} if len(members) > 1 else {""}
    return len(kinds) == 1 and max(Counter(member.seed for member in members).values()) == 1


def _kind(origin: Origin) -> str:
    """All that defines a network's training but the seed and who did the work."""
    if origin.config is not None:
        looks = ("validate_every", "evaluate_every", "diagnose_every", "checkpoint_every", "keep", "patience")
        free = ("seed", "engine", "journal", "tensorboard", *looks)
        settings = dataclasses.asdict(origin.config) | dict.fromkeys(free)
        settings["data"] |= {"root": "", "cache": ""}
    else:
        said = origin.card.as_json()
        settings = {key: said[key] for key in ("method", "loss", "model", "noise", "estimator")}
    return json.dumps(settings | {"step": origin.step}, sort_keys=True)


def _apart(subject: Subject) -> str:
    """A name with the run's and the checkpoint's own."""
    parts = [part for part in subject.checkpoint.rstrip("/").split("/")[-3:] if part != "checkpoints"]
    return f"{subject.name} ({' '.join(parts[-2:])})"
