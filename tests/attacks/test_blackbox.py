"""The kept library's attacks: they find planted adversaries, stay in the ball, and repeat themselves."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from planted import PIXELS, grey, nearest_distance, planted_linear, planted_threshold
from torch import Tensor, nn

from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.ball import fooled
from glr_dist.attacks.blackbox import HopSkipJump, Square
from glr_dist.errors import UserError

SEED = np.random.SeedSequence(5)
NAMES = ("hopskipjump", "square")


@pytest.mark.parametrize("name", NAMES)
def test_finds_the_planted_adversary_and_none_where_there_is_none(name: str) -> None:
    x, labels = grey(3)
    net = planted_linear(0.1)
    exact = nearest_distance(x, 0.1)
    far = named_attack(name, epsilon=1.5 * float(exact.max()), queries=3000)
    near = named_attack(name, epsilon=0.98 * float(exact.min()), queries=300)
    made = far.run(net, x, labels, SEED)
    assert fooled(net, made.x, labels).all()
    assert (made.x - x).abs().max() <= far.epsilon + 1e-6
    assert 0 < made.queries <= 3000
    missed = near.run(net, x, labels, SEED)
    assert not fooled(net, missed.x, labels).any()
    assert (missed.x - x).abs().max() <= near.epsilon + 1e-6
    assert missed.queries <= 300


def test_hopskipjump_breaks_a_network_without_a_gradient() -> None:
    x, labels = grey(2)
    net = planted_threshold(0.08)
    made = HopSkipJump(epsilon=0.14, queries=4000).run(net, x, labels, SEED).x
    assert fooled(net, made, labels).all()
    assert (made - x).abs().max() <= 0.14 + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_samples_and_numpys_own_stream_is_left_alone(name: str) -> None:
    x, labels = grey(2)
    config = named_attack(name, epsilon=0.05, queries=400)
    before = np.random.get_state()  # noqa: NPY002
    first = config.run(planted_linear(0.1), x, labels, SEED)
    after = np.random.get_state()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    second = config.run(planted_linear(0.1), x, labels, SEED)
    np.random.set_state(before)  # noqa: NPY002
    assert torch.equal(first.x, second.x)
    assert first.queries == second.queries
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    other = config.run(planted_linear(0.1), x, labels, np.random.SeedSequence(6))
    assert not torch.equal(first.x, other.x)


def test_hopskipjump_treats_each_sample_alone() -> None:
    x, labels = grey(3)
    net = planted_linear(0.1)
    together = HopSkipJump(epsilon=0.15, queries=300).run(net, x, labels, SEED).x
    turned = HopSkipJump(epsilon=0.15, queries=300).run(net, x.flip(0), labels, SEED).x
    assert torch.equal(together, turned.flip(0))


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_are_wrong_already_cost_one_pass_and_stay(name: str) -> None:
    x, labels = grey(3)
    made = named_attack(name, epsilon=0.1).run(planted_linear(0.1), x, labels + 1, SEED)
    assert torch.equal(made.x, x)
    assert made.queries == 1


@pytest.mark.parametrize("name", NAMES)
def test_size_zero_returns_the_input(name: str) -> None:
    x, labels = grey(2)
    made = named_attack(name, epsilon=0.0).run(planted_linear(0.1), x, labels, SEED)
    assert torch.equal(made.x, x)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    x, labels = grey(1)
    for name in NAMES:
        named_attack(name, epsilon=0.05, queries=100).run(planted_linear(0.1), x, labels, SEED)
    assert capfd.readouterr() == ("", "")


class Corner(nn.Module):
    """Class 1 where the last pixel alone is above 0.6."""

    def forward(self, x: Tensor) -> Tensor:
        last = x.flatten(1)[:, -1]
        return torch.stack([torch.zeros_like(last), last - 0.6], 1)


@pytest.mark.parametrize("shape", [(1,), (3,), (7,), (1, 1, 1), (1, 2, 5), (3, 4, 4), (1, 9, 9)])
def test_square_reaches_the_last_pixel_of_any_shape(shape: tuple[int, ...]) -> None:
    x = torch.full((2, *shape), 0.5)
    labels = torch.zeros(2, dtype=torch.int64)
    made = Square(epsilon=0.2, queries=600).run(Corner(), x, labels, np.random.SeedSequence(2)).x
    assert made.shape == x.shape
    assert fooled(Corner(), made, labels).all()
    assert (made - x).abs().max() <= 0.2 + 1e-6


def test_square_asks_once_a_step() -> None:
    x, labels = grey(4)
    asked = []

    def net(z: Tensor) -> Tensor:
        asked.append(len(z))
        return planted_linear(0.5)(z)

    Square(epsilon=0.05, queries=50).run(net, x, labels, SEED)
    assert 40 * len(x) < sum(asked) <= 50 * len(x)
    assert x.shape[1] == PIXELS


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "art.attacks", None)
    x, labels = grey(1)
    with pytest.raises(UserError, match=r"adversarial-robustness-toolbox .*glr-dist\[attacks\]"):
        Square(epsilon=0.1, queries=10).run(planted_linear(0.1), x, labels, SEED)
