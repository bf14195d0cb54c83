"""Interval proofs: none that does not hold, whatever the network; and what they say of nets that they know exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from exact_oracles import digits_net, lattice_net, rescaled
from hard_nets import SHAPE, hard_images, hard_net, hunted
from rational import class_at, float32_near, made, points
from small_nets import digits
from torch import Tensor, nn

from glr_dist.attacks.ascent import BpdaPgd
from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.exact.attack import proved
from glr_dist.attacks.exact.intervals import proof_layers, worst_leads
from glr_dist.attacks.exact.network import ball_around, threshold_network
from glr_dist.attacks.exact.program import class_programs
from glr_dist.attacks.exact.search import verify
from glr_dist.core.activations import Heaviside
from glr_dist.errors import UserError
from glr_dist.models.networks import InputThreshold, Thermometer

SEED = np.random.SeedSequence(0)


@pytest.mark.parametrize("count", [400, pytest.param(20000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_no_proof_is_contradicted_in_rational_numbers(count: int) -> None:
    safe = 0
    for number in range(count):
        model, x, epsilon = made(np.random.default_rng([7, number]))
        label = int(model(torch.from_numpy(x)[None]).argmax())
        if bool(proved(model, torch.from_numpy(x)[None], torch.tensor([label]), epsilon)):
            safe += 1
            found = list(points(model, x, epsilon))
            assert all(class_at(model, point) == label for point in found), number
            near = torch.from_numpy(float32_near(found, x, epsilon))
            assert (model(near).argmax(1) == label).all(), number
    assert count / 10 < safe < 0.9 * count


@pytest.mark.parametrize("seed", range(48))
def test_no_adversary_is_found_where_a_hard_network_is_called_proved(seed: int) -> None:
    model, rng = hard_net(seed), np.random.default_rng(seed)
    x = hard_images(rng, 12)
    labels = model(x).argmax(1)
    for epsilon in (0.0, 1e-7, 0.01, 0.1, 0.2, 0.3):
        for row in proved(model, x, labels, epsilon).nonzero()[:, 0].tolist():
            assert not hunted(model, x[row], int(labels[row]), epsilon, seed), (seed, row, epsilon)


def test_hard_networks_are_no_trivial_ones() -> None:
    """Many have images that are proved and images that a hunt breaks, so the test before could fail."""
    both = 0
    for seed in range(48):
        model, x = hard_net(seed), hard_images(np.random.default_rng(seed), 12)
        labels = model(x).argmax(1)
        some = proved(model, x, labels, 0.01).any()
        both += bool(some) and any(hunted(model, x[row], int(labels[row]), 0.3, seed) for row in range(12))
    assert both >= 8


def test_every_pattern_of_the_pixels_agrees_with_a_proof() -> None:
    """Where 9 pixels may turn, all inputs of the ball are tried: of proved images none has another class."""
    told = {True: 0, False: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        model = hard_net(4 * seed)  # behind a threshold
        x = torch.from_numpy(rng.choice([0.45, 0.55, 0.9, 0.9, 0.1, 0.1], (1, *SHAPE)).astype(np.float32))
        x.view(-1)[9:] = torch.from_numpy(rng.choice([0.0, 1.0], 7).astype(np.float32))
        label = model(x).argmax(1)
        bits = torch.tensor(list(itertools.product((0.4999, 0.5), repeat=9)))
        every = x.flatten(1).repeat(len(bits), 1)
        free = (x.view(-1)[:9] > 0.4) & (x.view(-1)[:9] < 0.6)
        every[:, :9] = torch.where(free, bits, every[:, :9])
        safe = bool(proved(model, x, label, 0.06))
        told[safe] += 1
        if safe:
            assert (model(every.view(-1, *SHAPE)).argmax(1) == label).all()
    assert min(told.values()) >= 5


def test_many_images_of_trained_networks_stand_every_hunt_where_they_are_proved() -> None:
    """Over 2,000 pairs of image and radius, of five networks."""
    x, _ = next(iter(digits().batches("test", 60)))
    base = digits_net(24)
    deep = nn.Sequential(InputThreshold(0.5), nn.Flatten(), *_two_layers(64))
    double = nn.Sequential(Thermometer([0.3, 0.7]), nn.Flatten(), *_two_layers(128))
    nets = [base, digits_net(24, 0.0), rescaled(base, 1), deep.requires_grad_(False), double.requires_grad_(False)]  # type: ignore[arg-type]
    pairs = 0
    for number, model in enumerate(nets):
        classes = model(x).argmax(1)
        for epsilon in (0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1):
            safe = proved(model, x, classes, epsilon)
            pairs += len(x)
            if not bool(safe.any()):
                continue
            attacked = BpdaPgd(epsilon=epsilon, steps=10, slopes=(2.0,), restarts=1).run(model, x, classes, SEED)
            assert (model(attacked.x).argmax(1) == classes)[safe].all()
            for row in safe.nonzero()[:, 0].tolist()[:10]:
                assert not hunted(model, x[row], int(classes[row]), epsilon, number, tries=40)
    assert pairs >= 2000


def _two_layers(inputs: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(inputs, 20), Heaviside(), nn.Linear(20, 15), Heaviside(), nn.Linear(15, 10)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_leads_are_the_program_s_interval_bounds(seed: int, threshold: float) -> None:
    """Computed another way: the other class's lead with every open unit won."""
    model = lattice_net(seed, inputs=9, hidden=14, classes=4, threshold=threshold)
    x = np.random.default_rng(seed).uniform(0.3, 0.7, 9).astype(np.float32)
    leads = worst_leads(proof_layers(model), torch.from_numpy(x)[None], torch.tensor([2]), 0.11)[0]
    every = class_programs(threshold_network(model), ball_around(x, 0.11, threshold or None), 2, 0.0)
    assert leads[2] == torch.inf
    for program in every:
        assert float(leads[program.wrong]) == pytest.approx(-program.interval_bound, abs=1e-4)


def test_what_intervals_prove_the_program_finds_robust() -> None:
    model = digits_net(24)
    x, labels = next(iter(digits().batches("test", 40)))
    found = named_attack("exact", 0.05).run(model, x, labels, SEED)
    assert found.bounded is not None and found.safe is not None and found.undecided is not None
    assert 0 < int(found.bounded.sum()) < int(found.safe.sum())  # the program proves more
    for row in found.bounded.nonzero()[:, 0].tolist()[:5]:
        assert verify(model, x[row].numpy(), int(labels[row]), 0.05, seconds=30).status == "robust"
    assert not bool((found.bounded & ~found.safe).any()) and not bool((found.safe & found.undecided).any())


def test_intervals_as_an_attack_prove_some_and_leave_the_others_undecided() -> None:
    model = digits_net(24)
    x, labels = next(iter(digits().batches("test", 100)))
    found = named_attack("intervals", 0.02).run(model, x, labels, SEED)
    right = model(x).argmax(1) == labels
    assert found.safe is not None and found.undecided is not None
    assert torch.equal(found.x, x) and int(found.safe.sum()) > 10
    assert torch.equal(found.safe | found.undecided, right)


def one_bit(weight: float, bias: float, readout: float = 1.0) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(1, 1), Heaviside(), nn.Linear(1, 2)).requires_grad_(False)
    for layer, w, b in ((model[0], [[weight]], [bias]), (model[2], [[readout], [0.0]], [0.0, 0.5])):
        layer.weight.copy_(torch.tensor(w))  # type: ignore[union-attr, operator]
        layer.bias.copy_(torch.tensor(b))  # type: ignore[union-attr, operator]
    return model


def lead_of(model: nn.Module, x: float, epsilon: float) -> float:
    return float(worst_leads(proof_layers(model), torch.tensor([[x]]), torch.tensor([0]), epsilon)[0, 1])


def test_a_bit_within_float32_s_error_of_its_threshold_is_open() -> None:
    assert lead_of(one_bit(1.0, -0.25), 0.5, 0.1) == pytest.approx(0.5, abs=1e-5)
    assert lead_of(one_bit(1.0, -0.399999), 0.5, 0.1) == pytest.approx(-0.5, abs=1e-5)  # 1e-6 beyond the edge
    huge = one_bit(1.0, -(2.0**24) + 0.0)
    huge[0].weight.fill_(2.0**25)  # type: ignore[union-attr, operator]
    assert lead_of(huge, 0.5, 0.0) == pytest.approx(-0.5, abs=1e-5)


def test_equal_logits_are_no_proof() -> None:
    assert lead_of(one_bit(1.0, 1.0, readout=0.5), 0.5, 0.1) <= 0.0


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Odd(), r"intervals: knows nothing of layer '1' \(Odd\)"),
        (nn.Sigmoid(), r"intervals: knows nothing of layer '1' \(Sigmoid\)"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), r"layer '1' \(Conv2d\) pads by 'reflect'"),
        (nn.Flatten(2), r"layer '1' \(Flatten\) keeps some axes"),
        (nn.AvgPool2d(2, divisor_override=3), r"layer '1' \(AvgPool2d\) has a divisor of its own"),
    ],
)
def test_a_layer_that_is_not_known_is_refused_by_name(layer: nn.Module, told: str) -> None:
    model = nn.Sequential(nn.Identity(), layer, nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    with pytest.raises(UserError, match=told):
        named_attack("intervals", 0.1).refuse(model, torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64))


def test_a_hook_and_a_last_layer_that_is_not_linear_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    handle = model[1].register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(UserError, match=r"layer '1' \(Linear\) has a hook or a forward of its own"):
        proof_layers(model)
    handle.remove()
    with pytest.raises(UserError, match=r"last layer must be Linear, it is layer '2' \(Heaviside\)"):
        proof_layers(nn.Sequential(*model, Heaviside()))


def test_sums_that_overflow_in_float32_get_no_proof() -> None:
    with pytest.raises(UserError, match=r"intervals: sums of the network's weights reach .*; scale them down"):
        lead_of(one_bit(3e38, -1.0), 0.5, 0.1)
