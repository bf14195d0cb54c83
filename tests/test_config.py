"""Configs: TOML and ``--set`` in, TOML out, and one clear line for what can't be."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from glr_dist.config import Config, config_toml, load_config, parse_config, preset_names, preset_text
from glr_dist.core.config import NoiseConfig
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.config import DataConfig
from glr_dist.engine.checks import make_task
from glr_dist.engine.config import OptimizerConfig
from glr_dist.errors import UserError
from glr_dist.models.config import ModelConfig
from glr_dist.models.spec import build_model
from glr_dist.settings import override

PRESETS = [
    "digits-threshold",
    "fashion-certified",
    "fashion-threshold",
    "mnist-2019-adversarial",
    "mnist-2019-surrogate",
    "mnist-2019-threshold",
    "mnist-2019-zero-one",
    "mnist-2021-threshold",
    "mnist-certified",
    "mnist-certified-small",
    "mnist-conv",
    "mnist-conv-deep",
    "mnist-sigmoid",
    "mnist-sigmoid-zero-one",
    "mnist-threshold",
    "mnist-wide",
    "mnist-worst-flips",
    "mnist-zero-one",
]


def test_the_package_has_the_promised_presets() -> None:
    assert preset_names() == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_in_its_first_line_what_it_is(name: str) -> None:
    first = preset_text(name).splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_task_on_data_of_its_shape(name: str) -> None:
    config = load_config(name)
    side = 8 if config.data.name == "digits" else config.data.resize or 28
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4000, 1, side, side), dtype=np.uint8)
    data = ArrayDataset((images, np.arange(4000) % 10), shards=config.data.shards)
    task = make_task(config, build_model(config.model, data.shape, 10, 0), data, None)
    scheme, copies = config.estimator.scheme, config.estimator.copies
    drawn = itertools.chain(config.estimator.flips, itertools.repeat(0))  # with each loss goes the number of its bit
    turned = {
        site: 2 * flips or site.size for site, flips in zip((s for s in task.sites if s.binary), drawn, strict=False)
    }
    of_sites = [turned[site] if site.binary and scheme == "flips" else copies for site in task.sites]
    losses = copies if scheme == "joint" else sum(of_sites)
    assert task.plan.losses_per_step == (losses * config.batch if config.method == "glr" else 0)


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_being_written_and_read(name: str) -> None:
    config = load_config(name, {"schedule.legs": "[12, 17]", "data.root": 'odd "name"\\'})
    assert parse_config(config_toml(config)) == config


def test_the_written_config_names_every_key() -> None:
    def keys(cls: type) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)}

    tree = tomllib.loads(config_toml(Config()))
    assert set(tree) == keys(Config)
    assert set(tree["noise"]) == {"family", "scale", "source", "table_size"}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("steps", "12", 12),
        ("noise.scale", "2", 2.0),
        ("noise.scale", "5e-1", 0.5),
        ("noise.family", "laplace", "laplace"),
        ("estimator.antithetic", "false", False),
        ("model.hidden", "[30, 20]", (30, 20)),
        ("model.hidden", "30,20", (30, 20)),
        ("model.hidden", "30", (30,)),
        ("model.hidden", "[]", ()),
        ("estimator.sites", "1,3", ("1", "3")),
        ("estimator.sites", "1", ("1",)),
        ("estimator.sites", '["features.0"]', ("features.0",)),
        ("data.root", "1999", "1999"),
        ("optimizer.options.amsgrad", "true", {"amsgrad": True}),
    ],
)
def test_set_reads_text_as_the_type_of_its_key(key: str, text: str, value: object) -> None:
    found: object = load_config("digits-threshold", {key: text})
    for name in key.split(".")[:2]:
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_set_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("steps = 7\nseed = 5\n[noise]\nscale = 0.25\n")
    config = load_config(str(file), {"noise.scale": "4.0", "seed": 6})
    assert (config.steps, config.seed, config.noise.scale) == (7, 6, 4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", r"key 'stepz': unknown; did you mean 'steps'\?"),
        ("[noise]\nscal = 2.0", r"key 'noise.scal': unknown; did you mean 'noise.scale'\?"),
        ("[optimzer]\nlr = 1.0", r"key 'optimzer': unknown; did you mean 'optimizer'\?"),
        ("steps = 1.5", r"steps = 1.5: must be a whole number"),
        ("steps = true", r"steps = True: must be a whole number"),
        ("noise = 3", r"noise = 3: is a table of keys"),
        ("[noise]\nscale = false", r"noise.scale = False: must be a number"),
        ("[model]\nhidden = 'wide'", r"model.hidden = .*wide.*: must be a whole number"),
        ("[model]\nhidden = [1.5]", r"model.hidden = 1.5: must be a whole number"),
        ("[estimator]\nantithetic = 1", r"estimator.antithetic = 1: must be true or false"),
        ("steps = ", r"mine: not valid TOML"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(text, source="mine")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method", "brute", "method = 'brute': unknown; choose from bp, bp-noise, es, glr, straight-through"),
        ("method", "straight", "did you mean 'straight-through'"),
        ("loss", "zero_one", "did you mean 'zero-one'"),
        ("journal", "of", "did you mean 'off'"),
        ("seed", -1, "seed = -1: must be at least 0"),
        ("seed", 2**63, "seed = 9223372036854775808: must be below 2"),
        ("steps", 0, "steps = 0: must be at least 1"),
        ("batch", 0, "batch = 0: must be at least 1"),
        ("validate_every", -1, "validate_every = -1"),
        ("engine.workers", -2, "engine.workers = -2"),
        ("engine.gpus_per_worker", -0.5, "engine.gpus_per_worker = -0.5: must be at least 0"),
        ("engine.threads", 0, "engine.threads = 0: must be at least 1"),
        ("estimator.copies", 2, "estimator.copies = 2: a leave-pair-out baseline needs at least 4"),
        ("estimator.scheme", "layer", "did you mean 'layerwise'"),
        ("optimizer.name", "admw", "did you mean 'adamw'"),
        ("schedule.name", "cosin", "did you mean 'cosine'"),
        ("model.kind", "cnn", "model.kind = 'cnn': unknown"),
        ("data.name", "minst", "data.name is 'minst': did you mean 'mnist'"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config("digits-threshold", {key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        ("bp", "antithetic", False),
        ("straight-through", "baseline", "none"),
        ("bp-noise", "conditioning", False),
        ("es", "conditioning", False),
    ],
)
def test_keys_that_a_method_never_reads_are_refused(method: str, key: str, value: object) -> None:
    keys = {"method": method, f"estimator.{key}": value}
    with pytest.raises(
        UserError, match=f"estimator.{key} = {value}: changes nothing with --method {method}; leave it out"
    ):
        load_config("mnist-zero-one", keys)
    assert load_config("mnist-zero-one", {"method": method}).estimator.copies == 64  # presets fit every method


def test_a_preset_that_is_none_is_told_the_nearest_name() -> None:
    with pytest.raises(UserError, match="preset 'mnist-treshold': unknown; did you mean 'mnist-threshold'"):
        load_config("mnist-treshold")


def test_files_that_cannot_be_read_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_config(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        load_config(str(tmp_path / "binary.toml"))


@pytest.mark.parametrize("setting", ["steps", "=3", " =3"])
def test_a_setting_needs_a_key_and_a_value(setting: str) -> None:
    with pytest.raises(UserError, match="write it as KEY=VALUE"):
        override(setting)


def test_a_setting_may_hold_further_equals_signs() -> None:
    assert override("data.root=s3://b?x=1") == ("data.root", "s3://b?x=1")


def test_a_config_of_an_older_version_loads_where_its_lost_keys_changed_nothing() -> None:
    assert parse_config("[augment]\nrefresh = 1\n") == Config()
    with pytest.raises(UserError, match=r"augment.refresh: this version has no such key any more"):
        parse_config("[augment]\nrefresh = 5\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 2e1}, "steps = 20.0: must be a whole number"),
        ({"steps": True}, "steps = True: must be a whole number"),
        ({"steps": 0}, "steps = 0: must be at least 1"),
        ({"batch": 10**30}, "batch = a number of 100 bits: must be below 2"),
        ({"method": "brute"}, "method = 'brute': unknown"),
        ({"noise": {"scale": "wide"}}, "noise.scale = 'wide': must be a number"),
        ({"noise": 3}, "noise = 3: is a table of keys"),
        ({"noise": NoiseConfig(scale=math.inf)}, "noise.scale = inf: must be a finite number"),
        ({"noise": NoiseConfig(scale=1e-40)}, "noise.scale = 1e-40: must be from 1e-30 to 1e"),
        ({"optimizer": OptimizerConfig(lr=math.nan)}, "optimizer.lr = nan: must be a finite number"),
        ({"optimizer": OptimizerConfig(options={"fused": None})}, "optimizer.options.fused = None: must be a number"),
        ({"data": DataConfig(root="\udc80")}, r"data.root = '\\udc80': is no valid text"),
    ],
)
def test_a_config_holds_its_keys_to_their_types_and_ranges_when_it_is_made(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(Config(), **change)


def test_plain_values_of_other_kinds_become_what_toml_gives() -> None:
    options = {"betas": (np.float32(0.5), 1)}
    made = Config(
        steps=np.int64(7),  # type: ignore[arg-type]
        noise={"scale": 2},  # type: ignore[arg-type]
        optimizer=OptimizerConfig(lr=np.float64(0.25), options=options),
        model=ModelConfig(hidden=[np.int32(3), 4]),  # type: ignore[arg-type]
        data=DataConfig(root=Path("there")),  # type: ignore[arg-type]
    )
    assert (type(made.steps), type(made.optimizer.lr), made.noise.scale) == (int, float, 2.0)
    assert (made.model.hidden, made.data.root, made.optimizer.options) == ((3, 4), "there", {"betas": [0.5, 1]})
    assert parse_config(config_toml(made)) == made
    assert options == {"betas": (np.float32(0.5), 1)}
