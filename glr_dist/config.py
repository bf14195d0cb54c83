"""A run's configuration: frozen dataclasses, TOML files, and ``--set key=value``.

Every room owns its part; this file puts the parts together. Keys are dotted paths (``noise.scale``), the same in TOML, in
``--set`` and in error messages.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from glr_dist.core.config import CERTIFIED, LOSSES, METHODS, EstimatorConfig, NoiseConfig
from glr_dist.core.own_code import check_form, is_own
from glr_dist.data.config import DataConfig
from glr_dist.engine.config import (
    AugmentConfig,
    CertifyConfig,
    EngineConfig,
    OptimizerConfig,
    ScheduleConfig,
    UnitsConfig,
)
from glr_dist.errors import UserError, check_known, first_line, nearest
from glr_dist.models.config import READ_BY, ModelConfig
from glr_dist.settings import build, conform, put

JOURNAL_CHOICES = ("auto", "on", "off")
PLACES = ("data.root", "data.cache", "augment.surrogate")  # keys that hold a path or a URI
_EVERY = ("validate_every", "checkpoint_every", "evaluate_every", "diagnose_every")
_RETIRED = (("augment", "refresh", 1),)  # table, key, the value that it has in configs of older runs


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run.

    Attributes:
        method: ``glr``, or a control: ``bp`` (autograd), ``bp-noise`` (autograd through the same noise),
            ``straight-through``, ``es`` (noise on the weights).
        loss: ``cross-entropy``, ``zero-one``, or a function of your own, ``FILE.py:NAME`` or ``MODULE:NAME``, called with
            outputs [B, C] and labels [B]; it returns a loss for each example, [B], and needs no derivative. ``certified``
            or ``certified-zero-one``: the same of the worst case in a ball, by interval bounds.
        seed: of everything random.
        steps: optimizer steps.
        batch: examples per step.
        validate_every: steps between validations; 0: only at the end.
        checkpoint_every: steps between checkpoints; 0: only at the end.
        evaluate_every: steps between checkpoints that an actor evaluates beside the run; 0: none.
        diagnose_every: steps between those that are estimated twice, to tell signal from noise; 0: none.
        keep: checkpoints that stay, the newest, beside the best by validation; 0: all.
        patience: validations in a row without a better accuracy that end the training; 0: it never ends before ``steps``.
        journal: ``on``, ``off``, or ``auto``: on when its estimated size is below 1 GB.
        tensorboard: write TensorBoard event files too; needs the extra ``glr-dist[tensorboard]``.
    """

    method: str = "glr"
    loss: str = "cross-entropy"
    seed: int = 0
    steps: int = 1000
    batch: int = 128
    validate_every: int = 500
    checkpoint_every: int = 1000
    evaluate_every: int = 0
    diagnose_every: int = 100
    keep: int = 0
    patience: int = 0
    journal: str = "auto"
    tensorboard: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    units: UnitsConfig = field(default_factory=UnitsConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    certify: CertifyConfig = field(default_factory=CertifyConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        """Hold every key to its type and its range, whichever door it came through."""
        conform(self)
        self.check()

    @classmethod
    def from_preset(cls, name: str, **keys: Any) -> Config:
        """A preset, or a TOML file, with some keys replaced.

        Keys have dots, ``Config.from_preset("digits-threshold", steps=100, **{"noise.scale": 1})``, or are given as dicts,
        whose other keys stay: ``noise={"scale": 1}``.

        Raises:
            UserError: for unknown names, keys, types or values.
        """
        return load_config(name, dict(_by_dots(keys)))

    @property
    def observes(self) -> bool:
        """Whether the method lives on losses that evaluators send home; else on autograd."""
        return METHODS[self.method][0]

    @property
    def noises(self) -> str:
        """What the method's training noise moves: neurons, weights or nothing."""
        return METHODS[self.method][1]

    def check(self) -> None:
        """Raise UserError naming the first key whose value can't be."""
        check_known("journal", self.journal, JOURNAL_CHOICES)
        for name in ("steps", "batch", "seed", "keep", "patience", *_EVERY):
            if getattr(self, name) < (least := 1 if name in ("steps", "batch") else 0):
                raise UserError(f"{name} = {getattr(self, name)}: must be at least {least}")
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            if hasattr(value, "check"):
                value.check()
        if self.schedule.legs and self.schedule.legs[-1] >= self.steps:
            raise UserError(f"schedule.legs = {list(self.schedule.legs)}: must lie below steps = {self.steps}")
        if self.patience and not self.validate_every:
            raise UserError(
                f"patience = {self.patience}: counts validations, and validate_every = 0 has none on the way; raise that, or"
                " leave patience out"
            )
        if self.engine.generators and not self.augment.attack:
            raise UserError(
                f"engine.generators = {self.engine.generators}: makes adversarial rows, and there are none; add --augment"
                " fgsm (check: --set augment.attack=fgsm), or leave it out"
            )
        check_known("method", self.method, METHODS)
        if is_own(self.loss):
            check_form("loss", self.loss)
        else:
            check_known("loss", self.loss, LOSSES)
        self._check_certify()
        observes, noises = METHODS[self.method]
        unread = ["conditioning"] if noises != "neurons" or not observes else []
        unread += [] if observes else ["baseline"]
        unread += ["antithetic"] if noises == "nothing" else []
        for key in unread:  # not copies: presets set these, whatever the method
            if (value := getattr(self.estimator, key)) != getattr(EstimatorConfig(), key):
                raise UserError(
                    f"estimator.{key} = {value}: changes nothing with --method {self.method}; leave it out, or use --method"
                    " glr"
                )

    def _check_certify(self) -> None:
        if self.loss in CERTIFIED and not self.certify.epsilon:
            raise UserError(
                f"certify.epsilon = 0.0: loss = {self.loss!r} needs the radius of its balls; give one above 0"
            )
        if self.loss not in CERTIFIED and self.certify != CertifyConfig():
            raise UserError(
                f"certify.epsilon = {self.certify.epsilon}: changes nothing with loss = {self.loss!r}; leave [certify] out,"
                " or use loss = 'certified'"
            )


def _by_dots(keys: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of nested tables by their dotted names; those of ``optimizer.options``, which are any, as one value."""
    for key, value in keys.items():
        if isinstance(value, Mapping) and not above:
            yield from _by_dots(value, f"{key}.")
        else:
            yield above + key, value


def preset_names() -> list[str]:
    """The presets in the package, sorted."""
    folder = resources.files("glr_dist") / "presets"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """A preset's TOML.

    Raises:
        UserError: for an unknown name.
    """
    if name not in preset_names():
        raise UserError(f"preset {name!r}: unknown; {nearest(name, preset_names())} (or give a .toml file)")
    return (resources.files("glr_dist") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def load_config(preset_or_file: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """A checked config from a preset's name or a path that ends in ``.toml``, with some keys replaced.

    Args:
        preset_or_file: the name or the path.
        overrides: dotted key -> value; strings are read as the key's type demands.

    Raises:
        UserError: for unknown names, keys, types or values.
    """
    if preset_or_file.endswith(".toml"):
        path = Path(preset_or_file)
        if not path.is_file():
            presets = ", ".join(preset_names())
            raise UserError(f"{preset_or_file}: no such file; give a preset ({presets}) or a TOML file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{preset_or_file}: cannot be read as text: {error}") from error
    else:
        text = preset_text(preset_or_file)
    return parse_config(text, overrides, source=preset_or_file)


def parse_config(text: str, overrides: Mapping[str, Any] | None = None, *, source: str = "config") -> Config:
    """A checked config from TOML text; see `load_config`."""
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{source}: not valid TOML: {first_line(error)}") from error
    for key, value in (overrides or {}).items():
        put(tree, key, value)
    _forget_idle(tree, overrides or {})
    _retire(tree)
    config: Config = build(Config, tree, "")
    return config


def _forget_idle(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Drop what a preset or file says of a network of one kind where another was asked for beside it."""
    model = tree.get("model")
    if isinstance(model, dict) and "model.kind" in overrides:
        for key, kinds in READ_BY.items():
            if model.get("kind") not in kinds and f"model.{key}" not in overrides:
                model.pop(key, None)


def _retire(tree: dict[str, Any]) -> None:
    """Drop keys that older versions wrote and this one has not, where they had the value that changed nothing."""
    for part, key, idle in _RETIRED:
        table = tree.get(part)
        if isinstance(table, dict) and key in table and table.pop(key) != idle:
            raise UserError(f"{part}.{key}: this version has no such key any more; leave it out, or use glr_dist 0.1")


def config_toml(config: Config) -> str:
    """The whole config as TOML text, defaults included."""
    import tomli_w

    return tomli_w.dumps(dataclasses.asdict(config))
