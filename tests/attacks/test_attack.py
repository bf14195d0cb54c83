"""All attacks alike: the ball, functions of their seed, their counts, settings and the text of their seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_images import images, network
from torch import Tensor, nn

from glr_dist.attacks.attack import named_attack
from glr_dist.errors import UserError

SEED = np.random.SeedSequence(11)


ATTACKS: dict[str, dict[str, Any]] = {
    "random-signs": {"draws": 60},
    "fgsm": {},
    "pgd": {"steps": 4, "restarts": 2},
    "bpda-pgd": {"steps": 4, "restarts": 2, "slopes": (1.0, 5.0)},
    "eot-pgd": {"steps": 3, "draws": 2, "slopes": (1.0,)},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_size_zero_returns_the_input_bit_for_bit(name: str) -> None:
    x, labels = images()
    x[0, 0, 0, 0] = -0.0
    net = network("heaviside" if "bpda" in name else "relu")
    made = named_attack(name, epsilon=0.0, **ATTACKS[name]).run(net, x, labels, SEED).x
    assert np.array_equal(made.numpy().view(np.uint32), x.numpy().view(np.uint32))
    assert made.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", ATTACKS)
@settings(max_examples=12)
@given(epsilon=st.floats(0.0, 2.0), seed=st.integers(0, 2**32), dark=st.booleans())
def test_all_stay_in_the_ball_and_in_range(name: str, epsilon: float, seed: int, dark: bool) -> None:
    x, labels = images(4)
    x = x * 1e-4 if dark else x
    clean = x.clone()
    config = named_attack(name, epsilon=epsilon, **ATTACKS[name])
    made = config.run(network("relu"), x, labels, np.random.SeedSequence(seed)).x
    assert made.dtype == torch.float32
    assert made.shape == x.shape
    assert made.min() >= 0.0
    assert made.max() <= 1.0
    assert (made.double() - x.double()).abs().max() <= epsilon + 1e-6
    assert torch.equal(x, clean)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_a_function_of_its_seed(name: str) -> None:
    x, labels = images()
    net = network("sigmoid")
    seed = np.random.SeedSequence(4, spawn_key=(9,))
    config = named_attack(name, epsilon=0.02, step_size=0.003, **ATTACKS[name])
    first, second = (config.run(net, x, labels, seed) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert first.queries == second.queries
    other = config.run(net, x, labels, np.random.SeedSequence(4, spawn_key=(10,)))
    assert torch.equal(first.x, other.x) == (name == "fgsm")


def test_queries_are_the_forward_passes() -> None:
    net, (x, labels) = network("relu"), images()
    labels = net(x).argmin(1)  # never fooled: no restart comes to an early end
    right = net(x).argmax(1)
    passes = []

    def counting(z: Tensor) -> Tensor:
        passes.append(len(z))
        return net(z)

    pgd_config = named_attack("pgd", epsilon=1e-6, steps=7, restarts=1)
    assert pgd_config.run(net, x, labels, SEED).queries == 7
    signs = named_attack("random-signs", epsilon=1e-6, draws=120)
    assert signs.run(counting, x, right, SEED).queries == 120
    assert sum(passes) == 120 * len(x)
    assert max(passes) <= 50 * len(x)  # in rounds: memory


def test_attacks_run_in_evaluation_mode_and_give_the_flags_back() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.9), nn.Linear(8, 10)).train()
    x, labels = images()
    for name in ATTACKS:
        config = named_attack(name, epsilon=0.1, **ATTACKS[name])
        first, second = (config.run(net, x, labels, SEED).x for _ in range(2))
        assert torch.equal(first, second)
        assert all(module.training for module in net.modules())
        assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_settings_are_told_in_words() -> None:
    assert named_attack("pgd", epsilon=0.1).words == "40 steps, 1 restart"
    attack = named_attack("eot-pgd", epsilon=0.1, steps=10, step_size=0.01, restarts=3, slopes=(1.0, 2.5), draws=8)
    assert attack.words == "10 steps of 0.01, 3 restarts, slopes 1, 2.5, 8 draws"
    assert named_attack("fgsm", epsilon=0.1).words == ""
    assert named_attack("random-signs", epsilon=0.1).words == "1000 draws"
    assert named_attack("random-signs", epsilon=0.1, draws=1).words == "1 draw"
    assert named_attack("eot-pgd", epsilon=0.1).words.endswith("16 draws")


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("fgms", {}, "--attack 'fgms': unknown; did you mean 'fgsm'"),
        ("fgsm", {"epsilon": -0.1}, "--epsilon -0.1: must be a finite number"),
        ("fgsm", {"epsilon": math.nan}, "--epsilon nan"),
        ("pgd", {"steps": 0}, "--steps 0: must be at least 1"),
        ("bpda-pgd", {"restarts": 0}, "--restarts 0: must be at least 1"),
        ("eot-pgd", {"step_size": math.inf}, "--step-size inf: must be a finite number"),
        ("eot-pgd", {"draws": 0}, "--draws 0: must be at least 1"),
        ("eot-pgd", {"slopes": ()}, r"slopes \[\]: give one or more"),
        ("bpda-pgd", {"slopes": (1.0, 0.0)}, "give one or more numbers above 0"),
        ("random-signs", {"draws": 0}, "--draws 0: must be at least 1"),
        ("square", {"queries": 0}, "--queries 0: must be at least 1"),
        ("exact", {"seconds": -1.0}, "--seconds-per-sample -1.0: must be a finite number"),
        ("pgd", {"stesp": 3}, "stesp: no attack has such a setting"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        named_attack(name, **{"epsilon": 0.1, **settings})
    assert "\n" not in str(caught.value)


def test_a_number_may_be_given_as_a_whole_one() -> None:
    named_attack("pgd", epsilon=1, step_size=0)
    named_attack("exact", epsilon=0, seconds=0)


def test_seeds_hang_on_the_text_that_they_always_had() -> None:
    """That of one class with all settings of all attacks, those of others in the same command among them."""
    assert named_attack("random-signs", 0.05, queries=200).seed_text() == (
        '{"draws": 0, "epsilon": 0.05, "name": "random-signs", "queries": 200, "restarts": 1, "seconds": 60.0,'
        ' "slopes": [1.0, 2.0, 5.0, 10.0], "step_size": 0.0, "steps": 40}'
    )
    assert '"draws": 7' in named_attack("random-signs", 0.05, draws=7).seed_text()
    assert named_attack("fgsm", 0.05, queries=200).settings() == {}
