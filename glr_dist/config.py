"""A run's configuration: frozen dataclasses, TOML files, and ``--set key=value``.

Every room owns its part; this file puts the parts together. Keys are dotted paths (``noise.scale``), the same in TOML, in
``--set`` and in error messages.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from glr_dist.core.estimator import EstimatorConfig
from glr_dist.core.losses import named_loss
from glr_dist.core.noise import NoiseConfig
from glr_dist.data.dataset import DataConfig
from glr_dist.engine.augment_config import AugmentConfig
from glr_dist.engine.optimization import OptimizerConfig, ScheduleConfig
from glr_dist.engine.problem import METHODS
from glr_dist.engine.units import UnitsConfig
from glr_dist.errors import UserError, nearest
from glr_dist.models.spec import ModelConfig

JOURNAL_CHOICES = ("auto", "on", "off")


_LEAST = (("reconstructors", 0), ("generators", 0), ("gpus_per_worker", 0), ("threads", 1), ("in_flight", 1))


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Who does the work. How many they are never changes a result; threads and the kind of device may, in the last bits.

    Attributes:
        workers: evaluator actors; 0 runs in this process without Ray, -1 takes what the cluster has.
        reconstructors: reconstructor actors; 0 reconstructs in the driver.
        generators: actors that make adversarial rows; 0: whoever needs them makes them.
        gpus_per_worker: GPUs for each evaluator and reconstructor, may be a fraction.
        threads: torch threads of every evaluator, reconstructor and of the driver.
        in_flight: calls that may wait at one worker.
    """

    workers: int = -1
    reconstructors: int = 0
    generators: int = 0
    gpus_per_worker: float = 0.0
    threads: int = 1
    in_flight: int = 2

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.workers < -1:
            raise UserError(f"engine.workers = {self.workers}: must be 0 (in-process) or more, or -1 (all CPUs)")
        if self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise UserError(f"engine.gpus_per_worker = {self.gpus_per_worker}: above 1 it must be a whole number")
        if self.gpus_per_worker and not (self.workers or self.reconstructors):
            raise UserError(
                f"engine.gpus_per_worker = {self.gpus_per_worker}: GPUs are for actors; use --workers 1 or more"
            )
        for name, least in _LEAST:
            if getattr(self, name) < least:
                raise UserError(f"engine.{name} = {getattr(self, name)}: must be at least {least}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that defines a run.

    Attributes:
        method: ``glr``, or a control: ``bp`` (autograd), ``bp-noise`` (autograd through the same noise),
            ``straight-through``, ``es`` (noise on the weights).
        loss: ``cross-entropy`` or ``zero-one``.
        seed: of everything random.
        steps: optimizer steps.
        batch: examples per step.
        validate_every: steps between validations; 0: only at the end.
        checkpoint_every: steps between checkpoints; 0: only at the end.
        evaluate_every: steps between checkpoints that an actor evaluates beside the run; 0: none.
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
    engine: EngineConfig = field(default_factory=EngineConfig)

    def check(self) -> None:
        """Raise UserError naming the first key whose value can't be."""
        if self.method not in METHODS:
            raise UserError(f"method = {self.method!r}: unknown; {nearest(self.method, METHODS)}")
        named_loss(self.loss)  # says if there is none
        if self.journal not in JOURNAL_CHOICES:
            raise UserError(f"journal = {self.journal!r}: unknown; {nearest(self.journal, JOURNAL_CHOICES)}")
        for name, least in (
            ("steps", 1),
            ("batch", 1),
            ("seed", 0),
            ("validate_every", 0),
            ("checkpoint_every", 0),
            ("evaluate_every", 0),
        ):
            if getattr(self, name) < least:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least {least}")
        if self.seed >= 2**63:
            raise UserError(f"seed = {self.seed}: must be below 2^63")
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            if hasattr(value, "check"):
                value.check()
        if self.engine.generators and not self.augment.attack:
            raise UserError(
                f"engine.generators = {self.engine.generators}: makes adversarial rows, and there are none; add --augment"
                " fgsm (check: --set augment.attack=fgsm), or leave it out"
            )


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
    """A checked config from a preset's name or a TOML file, with some keys replaced.

    Args:
        preset_or_file: a preset's name, or a path that ends in ``.toml``.
        overrides: dotted key -> value; strings are read as the key's type demands.

    Raises:
        UserError: for unknown names, keys, types or values.
    """
    if preset_or_file.endswith(".toml"):
        path = Path(preset_or_file)
        if not path.is_file():
            raise UserError(
                f"{preset_or_file}: no such file; give a preset ({', '.join(preset_names())}) or a TOML file"
            )
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
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        _put(tree, key, value)
    config: Config = part_of_config(Config, tree, "")
    config.check()
    return config


def config_toml(config: Config) -> str:
    """The whole config as TOML text, defaults included."""
    import tomli_w

    return tomli_w.dumps(dataclasses.asdict(config))


def override(setting: str) -> tuple[str, str]:
    """The two halves of one ``--set KEY=VALUE``.

    Raises:
        UserError: when there is no ``=``.
    """
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting!r}: write it as KEY=VALUE, for example --set noise.scale=2.0")
    return key.strip(), value.strip()


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise UserError(f"{key}: {name} is a value, not a table of keys")
    tree[last] = value


def part_of_config(cls: type, tree: Mapping[str, Any], prefix: str) -> Any:
    """A config dataclass from its keys, as TOML or JSON gives them; not checked yet.

    Args:
        cls: the dataclass.
        tree: its keys and values.
        prefix: what stands before the keys in error messages, such as ``model.``.

    Raises:
        UserError: for unknown keys and values of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in tree.items():
        if key not in hints:
            known = [prefix + name for name in hints]
            raise UserError(f"key {prefix + key!r}: unknown; {nearest(prefix + key, known)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix + key} = {value!r}: is a table of keys; name one, such as {prefix + key}.…")
            values[key] = part_of_config(typing.cast(type, hints[key]), value, f"{prefix}{key}.")
        else:
            values[key] = _converted(prefix + key, value, hints[key])
    return cls(**values)


def _converted(key: str, value: Any, hint: Any) -> Any:
    """The value as the key's type; strings, as ``--set`` gives them, are read as TOML values first."""
    origin = typing.get_origin(hint)
    if isinstance(value, str) and hint is not str:
        text, value = value, _read(key, value, hint)
        if origin is tuple and not isinstance(value, list):  # --set model.hidden=50, --set estimator.sites=1
            value = [text if typing.get_args(hint)[0] is str else value]
    if origin is tuple and isinstance(value, (list, tuple)):
        item = typing.get_args(hint)[0]
        return tuple(_converted(key, entry, item) for entry in value)
    if origin is dict and isinstance(value, dict):
        return {name: _read(key, entry, hint) if isinstance(entry, str) else entry for name, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} = {value!r}: must be a finite number")
    expected = origin or hint
    if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{key} = {value!r}: must be {_described(hint)}")
    return value


def _read(key: str, text: str, hint: Any) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] is str:
            return [part.strip() for part in text.split(",")]
        if typing.get_origin(hint) is tuple or "," in text:
            return _read(key, f"[{text}]", list) if not text.startswith("[") else text
        return text


def _described(hint: Any) -> str:
    if isinstance(hint, types.GenericAlias):
        if typing.get_origin(hint) is not tuple:
            return "a table"
        return f"a list of {'whole numbers' if typing.get_args(hint)[0] is int else 'texts'}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
