"""From description to network: the same bits for the same seed, whatever torch's own generator is at."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import types
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torchvision.transforms import Normalize

from glr_dist.errors import UserError
from glr_dist.models.config import ModelConfig
from glr_dist.models.spec import build_model, load_weights

SHAPE = (1, 8, 8)
CONFIGS = [
    ModelConfig(),
    ModelConfig(hidden=(20, 10), activation="sigmoid", init_std=0.5),
    ModelConfig(kind="conv", channels=(4,), kernel=3, stride=1),
    ModelConfig(kind="factory", factory="a_users_networks:build"),
]


@pytest.fixture(autouse=True)
def users_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the user's own with factories in it."""
    module = types.ModuleType("a_users_networks")

    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        assert shape == SHAPE
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, classes))

    module.build = build  # type: ignore[attr-defined]

    def raises(shape: tuple[int, ...], classes: int) -> nn.Module:
        return {}[classes]  # type: ignore[no-any-return]

    module.raises = raises  # type: ignore[attr-defined]
    module.number = lambda shape, classes: classes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_users_networks", module)
    return module


def parameters(config: ModelConfig, seed: int) -> torch.Tensor:
    return nn.utils.parameters_to_vector(build_model(config, SHAPE, 10, seed).parameters()).detach()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_the_seed_alone_makes_the_parameters(config: ModelConfig) -> None:
    first = parameters(config, 3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(parameters(config, 3), first)
    assert torch.equal(torch.get_rng_state(), before)  # and the caller's generator is where it was
    assert not torch.equal(parameters(config, 4), first)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [("1.weight", math.nan, True), ("1.bias", math.inf, True), ("mask", math.nan, True), ("mask", -math.inf, False)],
)
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float, refused: bool) -> None:
    """Infinity is right for a mask alone."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model.register_buffer("mask", torch.zeros(3))
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    weights[name].view(-1)[0] = value
    with pytest.raises(UserError, match=rf"^runs/a: \w+ '{name}' is not finite") if refused else nullcontext():
        load_weights(model, weights, "runs/a")


def test_networks_are_built_for_evaluation() -> None:
    assert not any(module.training for module in build_model(CONFIGS[3], SHAPE, 10, 0).modules())


def test_init_std_is_the_standard_deviation_of_the_weights() -> None:
    model = build_model(ModelConfig(hidden=(400,), init_std=0.5), SHAPE, 10, 0)
    weights = torch.cat([p.detach().flatten() for name, p in model.named_parameters() if name.endswith("weight")])
    assert len(weights) == 64 * 400 + 400 * 10
    assert float(weights.std()) == pytest.approx(0.5, rel=0.02)  # 4 standard errors: 0.5 / sqrt(2 * 29600) * 4 = 0.008
    assert abs(float(weights.mean())) < 4 * 0.5 / 29_600**0.5
    assert all(bool((p == 0).all()) for name, p in model.named_parameters() if name.endswith("bias"))


def test_pytorchs_own_initialisation_otherwise() -> None:
    torch.manual_seed(11)
    expected = nn.Linear(64, 50)
    built = build_model(ModelConfig(), SHAPE, 10, 11)
    assert torch.equal(built[1].weight, expected.weight)  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "mpl"}, "model.kind = 'mpl': unknown; did you mean 'mlp'"),
        ({"hidden": (50, 0)}, r"model.hidden = \[50, 0\]: every layer needs at least 1 unit"),
        ({"kernel": 0}, "model.kernel = 0: must be at least 1"),
        ({"init_std": -1.0}, "model.init_std = -1.0: must be 0 or more"),
        ({"activation": "rele"}, "model.activation = 'rele': unknown; did you mean 'relu'"),
        ({"kernel": 3}, "model.kernel = 3: changes nothing with model.kind = 'mlp'; .* add --set model.kind=conv"),
        ({"kind": "conv", "hidden": (9,)}, r"model.hidden = \[9\]: changes nothing with model.kind = 'conv'"),
        ({"factory": "a_users_networks:build"}, "model.factory = .*: changes nothing .* add --set model.kind=factory"),
        ({"kind": "conv"}, "2 convolutions leave nothing of 8x8 pixels"),
        ({"kind": "factory", "factory": "build"}, "model.factory = 'build': write it as FILE.py:NAME or MODULE:NAME"),
        (
            {"kind": "factory", "factory": "no_such_module:build"},
            "model.factory .*No module named 'no_such_module'",
        ),
        ({"kind": "factory", "factory": "a_users_networks:biuld"}, "model.factory .*has no attribute 'biuld'"),
        ({"kind": "factory", "factory": "a_users_networks:number"}, "returned int, not a torch.nn.Module"),
        (
            {"kind": "factory", "factory": "a_users_networks:raises"},
            r"raised KeyError: 10 \(.*test_spec.py:\d+, in r",
        ),
        ({"hidden": (2**50,)}, "can't be built as the config says: "),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, object], message: str) -> None:
    config = dataclasses.replace(ModelConfig(), **changes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        build_model(config, SHAPE, 10, 0)


def test_standardized_inputs_are_those_of_torchvision_and_attacks_see_plain_pixels() -> None:
    plain = build_model(ModelConfig(hidden=(7,), activation="relu"), (1, 4, 4), 3, seed=5)
    inside = build_model(
        ModelConfig(hidden=(7,), activation="relu", input_mean=0.25, input_std=0.5), (1, 4, 4), 3, seed=5
    )
    x = torch.rand((6, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    assert torch.equal(inside(x), plain(Normalize([0.25], [0.5])(x)))


@pytest.mark.parametrize(
    ("keys", "mention"),
    [
        ({"input_std": 0.0}, "input_std = 0.0: must be above 0"),
        ({"input_threshold": 0.5, "input_mean": 0.1}, "input_threshold = 0.5"),
        ({"kind": "factory", "factory": "a:b", "input_mean": 0.1}, "your factory builds"),
    ],
)
def test_input_keys_that_cannot_be(keys: dict[str, object], mention: str) -> None:
    with pytest.raises(UserError, match=re.escape(mention)):
        ModelConfig(**keys).check()  # type: ignore[arg-type]
