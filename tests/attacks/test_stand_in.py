"""Attacks with a stand-in derivative: planted adversaries behind steps, and behind noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import PIXELS, SIGNS, grey, planted_threshold
from torch import Tensor, nn

from glr_dist.attacks.ascent import BpdaPgd, EotPgd, fgsm
from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.ball import fooled
from glr_dist.attacks.random_signs import RandomSigns
from glr_dist.core.activations import heaviside
from glr_dist.errors import UserError

SEED = np.random.SeedSequence(11)


def bpda(net: nn.Module, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    attack = BpdaPgd(epsilon=epsilon, slopes=(1.0,), step_size=epsilon / 10)
    return attack.run(net, x, labels, SEED).x


def test_bpda_finds_the_adversary_that_fgsm_cannot_see() -> None:
    x, labels = grey(6)
    net = planted_threshold(0.08)
    with pytest.raises(UserError, match="no gradient"):
        fgsm(net, x, labels, 0.1)
    with pytest.raises(UserError, match="no gradient"):
        named_attack("pgd", epsilon=0.1).run(net, x, labels, SEED)
    assert not fooled(net, RandomSigns(epsilon=0.1, draws=200).run(net, x, labels, SEED).x, labels).any()
    made = bpda(net, x, labels, 0.1)
    assert fooled(net, made, labels).all()
    assert ((made - x) * SIGNS).sum(1).min() > 0.05 * PIXELS
    assert not fooled(net, bpda(net, x, labels, 0.05), labels).any()  # the adversary is 0.07 away at least


def test_of_several_slopes_the_one_with_a_gradient_does_it() -> None:
    x, labels = grey(4)
    net = planted_threshold(0.08)
    with torch.no_grad():  # the same function, but slopes of 1 and more are all zero in float32
        net[0].weight.mul_(1000.0)
        net[0].bias.mul_(1000.0)
    config = named_attack("bpda-pgd", epsilon=0.1, slopes=(10.0, 0.001), steps=20)
    found = config.run(net, x, labels, SEED)
    assert fooled(net, found.x, labels).all()
    assert found.without_gradient == 0
    with pytest.raises(UserError, match=r"with slopes \[10\.0\].*--attack square"):
        named_attack("bpda-pgd", epsilon=0.1, slopes=(10.0,)).run(net, x, labels, SEED)


def test_a_stand_in_does_not_help_a_foreign_step() -> None:
    x, labels = grey(2)
    with pytest.raises(UserError, match="only glr_dist's Heaviside units"):
        bpda(nn.Sequential(nn.Linear(PIXELS, 4), Sign(), nn.Linear(4, 2)), x, labels, 0.1)


def test_a_stand_in_starts_three_times_for_each_slope_wherever_it_is_made() -> None:
    assert BpdaPgd(epsilon=0.1).restarts == named_attack("bpda-pgd", 0.1).restarts == 3


class Sign(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sign()


class Noisy:
    """A planted unit behind noise so large that one draw's gradient and class are often wrong."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(8)
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.from_numpy(self.rng.normal(0.0, 2.0, (len(x), 1)).astype(np.float32))
        bit = heaviside((x - 0.5) @ SIGNS[:, None] - 3.0 + noise)
        return torch.cat([0.5 - bit, bit - 0.5], 1)


def test_eot_breaks_a_network_whose_noise_stays_on() -> None:
    x, labels = grey(5)
    net = Noisy()
    attack = EotPgd(epsilon=0.1, draws=8, slopes=(1.0,), steps=20, step_size=0.02, restarts=1)
    found = attack.run(net, x, labels, SEED)
    made = found.x
    assert net.calls == 1 + 20 * 8  # one run: to refuse, then each step's draws
    assert found.queries == 20 * 8  # of which the look at the clean samples is none of the attack's
    wrong = torch.stack([fooled(Noisy(), z[None].repeat(400, 1), labels[:1].repeat(400)).float().mean() for z in made])
    clean = fooled(Noisy(), x[:1].repeat(400, 1), labels[:1].repeat(400)).float().mean()
    # P(bit) = Phi((0.1 * 64 - 3) / 2) = 0.955 at the best point, Phi(-1.5) = 0.067 at grey
    assert clean < 0.12
    assert wrong.min() > 0.9
