"""What a run and its checkpoints say about where they come from: provenance.json, and the better part of meta.json."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from glr_dist import __version__
from glr_dist.config import Config
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.device import device_name
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.models.config import ModelConfig
from glr_dist.runs.record import config_sha256, history
from glr_dist.settings import build

_OWN = "custom"  # what was given in Python: no file can tell it


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What makes data the same for a run: their content, and how it is cut into shards and shown."""

    name: str
    fingerprint: str  # of the content
    rows: Mapping[str, list[int]]  # of each shard, for the splits train and validation
    resize: int  # this and the following as in the config
    validation: float
    shards: int

    @classmethod
    def of(cls, config: Config, data: DataSource) -> DataCard:
        """The card of data that are open."""
        return cls(
            name=data.name,
            fingerprint=data.fingerprint,
            rows={split: list(data.sizes(split)) for split in ("train", "validation")},
            resize=config.data.resize,
            validation=config.data.validation,
            shards=config.data.shards,
        )


@dataclass(frozen=True, kw_only=True)
class SurrogateCard:
    """The fixed network that adversarial rows are made on."""

    place: str = dataclasses.field(compare=False)  # where its checkpoint lay; it may move
    params_sha256: str
    model: ModelConfig


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """Where a run's numbers come from."""

    config_sha256: str | None  # of all that its config says of results; None: an older version's card
    seed: int
    method: str
    loss: str | None  # its name; None: given in Python
    model: ModelConfig | None  # None: given in Python
    fold: bool  # whether copies are rows of a larger batch: decided once, as the two ways may differ in the last bit
    shape: tuple[int, ...]  # of one example
    classes: tuple[str, ...]
    data: DataCard
    noise: NoiseConfig
    estimator: EstimatorConfig
    augment: Mapping[str, Any]  # the settings of [augment]
    surrogate: SurrogateCard | None  # None: its adversarial rows are made on the network itself, or there are none
    versions: Mapping[str, str]  # of the software, and the device that evaluates
    code: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of the user's own: file below code/ -> SHA-256
    initial: Mapping[str, Any] | None = None  # the checkpoint its initial weights are from; None: the seed's, or given

    @classmethod
    def of(
        cls,
        config: Config,
        data: DataSource,
        *,
        fold: bool,
        surrogate: SurrogateCard | None,
        own_model: bool,
        own_loss: bool,
        code: Mapping[str, str] | None = None,
    ) -> RunCard:
        """The card of a run that begins now; model and loss are the config's unless they are the user's own."""
        return cls(
            config_sha256=config_sha256(config),
            seed=config.seed,
            method=config.method,
            loss=None if own_loss else config.loss,
            model=None if own_model else config.model,
            fold=fold,
            shape=tuple(data.shape),
            classes=tuple(data.classes),
            data=DataCard.of(config, data),
            noise=config.noise,
            estimator=config.estimator,
            augment=dataclasses.asdict(config.augment),
            surrogate=surrogate,
            versions={
                "glr_dist": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "device": device_name(config.engine.evaluates_on),
            },
            code=dict(code or {}),
        )

    @classmethod
    def read(cls, said: Mapping[str, Any], place: str) -> RunCard:
        """The card that a file of that place holds; what else the file says is left alone.

        Raises:
            UserError: when something is missing.
        """
        try:
            own = said["model"]["kind"] == _OWN
            surrogate = said.get("surrogate")
            if surrogate is not None:
                surrogate = SurrogateCard(**surrogate | {"model": build(ModelConfig, surrogate["model"], "model.")})
            card = cls(
                config_sha256=said.get("config_sha256"),
                seed=said["seed"],
                method=said["method"],
                loss=None if said["loss"] == _OWN else said["loss"],
                model=None if own else build(ModelConfig, said["model"], "model."),
                fold=said["fold"],
                shape=tuple(said["shape"]),
                classes=tuple(said["classes"]),
                data=DataCard(**said["data"]),
                noise=build(NoiseConfig, said["noise"], "noise."),
                estimator=build(EstimatorConfig, said["estimator"], "estimator."),
                augment=said.get("augment", {}),
                surrogate=surrogate,
                versions=said["versions"],
                code=said.get("code", {}),
                initial=said.get("initial"),
            )
        except UserError as error:
            raise UserError(f"{place}: does not say what its run is made of: {error}") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{place}: does not say what its run is made of: {error!r}") from error
        for key, sound in card._kinds():
            if not sound:
                raise UserError(f"{place}: does not say what its run is made of: {key} has another type or value")
        return card

    def _kinds(self) -> Iterator[tuple[str, bool]]:
        """Each thing that it says, and whether that has the right type."""
        yield "config_sha256", isinstance(self.config_sha256, str | None)
        yield "seed", type(self.seed) is int and 0 <= self.seed < 2**63
        yield "method", isinstance(self.method, str)
        yield "loss", isinstance(self.loss, str | None)
        yield "fold", isinstance(self.fold, bool)
        yield "shape", all(type(size) is int and size > 0 for size in self.shape)
        yield "classes", bool(self.classes) and all(isinstance(name, str) for name in self.classes)
        yield "data.name", isinstance(self.data.name, str)
        yield "data.fingerprint", isinstance(self.data.fingerprint, str)
        rows = self.data.rows
        named = isinstance(rows, dict) and set(rows) == {"train", "validation"}
        yield "data.rows", named and all(isinstance(n, list) and all(type(x) is int for x in n) for n in rows.values())
        yield "data.resize", type(self.data.resize) is int
        yield "data.validation", type(self.data.validation) in (int, float)
        yield "data.shards", type(self.data.shards) is int
        yield "augment", isinstance(self.augment, dict)
        yield "versions", isinstance(self.versions, dict)
        named = isinstance(self.code, dict)
        yield "code", named and all(isinstance(text, str) for pair in self.code.items() for text in pair)
        yield "initial", self.initial is None or isinstance(self.initial, dict)
        known = self.surrogate
        yield "surrogate", known is None or (isinstance(known.place, str) and isinstance(known.params_sha256, str))

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        said = dataclasses.asdict(self)
        return said | {"loss": self.loss or _OWN, "model": said["model"] or {"kind": _OWN}}

    def refuse_other(self, now: RunCard, place: str) -> None:
        """Refuse to go on with what is given ``now`` where it is not what the run at a place was made of, as this card says.

        Raises:
            UserError: naming what differs.
        """
        for thing, was_own, is_own in (
            ("model", self.model is None, now.model is None),
            ("loss", self.loss is None, now.loss is None),
        ):
            if was_own != is_own:
                how = f"was given in Python; pass it again: glr_dist.resume(run, {thing}=...)"
                raise UserError(
                    f"{place}: its {thing} {how if was_own else f'is that of its config; leave {thing}= out'}"
                )
        self.refuse_other_source(now.data, now.surrogate, place)

    def refuse_other_config(self, config: Config, place: str) -> None:
        """Refuse a config that is not what this card was written under, at a place, nor an extension of that.

        Raises:
            UserError: naming a key, where the card tells it.
        """
        told = {
            "seed": (self.seed, config.seed),
            "method": (self.method, config.method),
            "loss": (self.loss, self.loss and config.loss),
            **_told_of("model", self.model, self.model and config.model),
            **_told_of("noise", self.noise, config.noise),
            **_told_of("estimator", self.estimator, config.estimator),
        }
        for key, (was, is_now) in told.items():
            if was != is_now:
                raise UserError(
                    f"{place}: was made with {key} = {was!r}, the run's config says {is_now!r}; put that back"
                )
        if self.config_sha256 not in (None, *map(config_sha256, history(config))):
            raise UserError(f"{place}: was made with another config than the run's is now; put that back")

    def refuse_other_source(self, data: DataCard, surrogate: SurrogateCard | None, place: str) -> None:
        """Refuse what would give other rows: a surrogate with other parameters, data with another content or in other
        shards (the same examples in other batches give other bits).

        Raises:
            UserError: naming what differs.
        """
        then, now = self.surrogate, surrogate
        if then is None and now is not None:
            raise UserError(f"{place}: its adversarial rows were made on the network itself; leave --surrogate out")
        if then is not None and now is None:
            raise UserError(
                f"{place}: its adversarial rows were made on another network; give --surrogate {then.place}"
            )
        if then is not None and now is not None and then != now:
            raise UserError(
                f"{place}: its surrogate had parameters {then.params_sha256[:12]}…, {now.place} has"
                f" {now.params_sha256[:12]}…; give the one it was trained with (--surrogate): it was {then.place}"
            )
        if self.data.fingerprint != data.fingerprint:
            raise UserError(
                f"{place}: was trained on data with fingerprint {self.data.fingerprint[:12]}…, this data set has"
                f" {data.fingerprint[:12]}…; give the data of the run (--data-root)"
            )
        if self.data.rows != data.rows:
            raise UserError(
                f"{place}: its data were cut into shards of {self.data.rows['train']} training rows, these are"
                f" {data.rows['train']}; give the very shards of the run (--data-root)"
            )


def _told_of(table: str, was: Any, is_now: Any) -> dict[str, tuple[Any, Any]]:
    """Both values of every key of a table of the config; nothing where the card tells nothing of it."""
    if was is None:
        return {}
    pairs = zip(dataclasses.asdict(was).items(), dataclasses.asdict(is_now).values(), strict=True)
    return {f"{table}.{key}": (before, now) for (key, before), now in pairs}
