"""Exact robustness against oracles that try everything, and against attacks that must not contradict it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_oracles import classes_by_patterns, classes_in_ball, digits_net, lattice_net, rescaled
from numpy.typing import NDArray
from planted import grey, planted_threshold
from rational import inside
from small_nets import digits
from torch import nn
from torch.nn.functional import cross_entropy

from glr_dist.attacks.exact.network import threshold_network
from glr_dist.attacks.exact.search import Verdict, verify
from glr_dist.core.activations import Heaviside, straight_through
from glr_dist.errors import UserError
from glr_dist.models.networks import InputThreshold


def confirmed(model: nn.Module, x: NDArray[np.float32], label: int, epsilon: float, verdict: Verdict) -> bool:
    """Whether a verdict of "broken" holds: the network itself is wrong on its adversary, which lies in the ball."""
    found = verdict.adversary
    assert found is not None and found.dtype == np.float32 and found.shape == x.shape
    return bool(
        inside(found.ravel(), x.ravel(), epsilon) and int(model(torch.from_numpy(found)[None]).argmax()) != label
    )


def test_behind_a_threshold_every_pattern_of_bits_agrees() -> None:
    seen = {"robust": 0, "broken": 0}
    for seed in range(80):
        model = lattice_net(seed, inputs=9, hidden=7, classes=3, threshold=0.5)
        x = np.random.default_rng(seed).uniform(0, 1, 9).astype(np.float32)
        label = int(model(torch.from_numpy(x)[None]).argmax())
        expected = "robust" if classes_in_ball(model, x, 0.25, 0.5) == {label} else "broken"
        verdict = verify(model, x, label, 0.25, seconds=30)
        assert verdict.status == expected, seed
        assert (verdict.bound < 0) == (expected == "robust")
        assert expected == "robust" or confirmed(model, x, label, 0.25, verdict)
        seen[expected] += 1
    assert min(seen.values()) >= 15


def test_without_a_threshold_every_sign_pattern_agrees() -> None:
    seen = {"robust": 0, "broken": 0}
    for seed in range(30):
        model = lattice_net(seed, inputs=5, hidden=4, classes=3)
        x = np.random.default_rng(seed).uniform(0, 1, 5).astype(np.float32)
        label = int(model(torch.from_numpy(x)[None]).argmax())
        surely, perhaps = classes_by_patterns(model, x, 0.1, 1e-3)
        if surely != perhaps:
            continue  # a pattern that hangs on the last thousandth
        expected = "robust" if surely == {label} else "broken"
        verdict = verify(model, x, label, 0.1, seconds=30)
        assert verdict.status == expected, seed
        assert expected == "robust" or confirmed(model, x, label, 0.1, verdict)
        seen[expected] += 1
    assert min(seen.values()) >= 6


@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_the_scale_of_a_unit_or_of_the_readout_changes_no_verdict(threshold: float) -> None:
    seen = {"robust": 0, "broken": 0}
    for seed in range(40):
        model = lattice_net(seed, inputs=6, hidden=6, classes=3, threshold=threshold)
        x = np.random.default_rng(seed).uniform(0, 1, 6).astype(np.float32)
        label = int(model(torch.from_numpy(x)[None]).argmax())
        plain = verify(model, x, label, 0.15, seconds=30)
        if threshold:
            expected = "robust" if classes_in_ball(model, x, 0.15, threshold) == {label} else "broken"
            assert plain.status == expected
        scaled = rescaled(model, seed)
        verdict = verify(scaled, x, label, 0.15, seconds=30)
        assert verdict.status == plain.status, seed
        assert verdict.status == "robust" or confirmed(scaled, x, label, 0.15, verdict)
        seen[verdict.status] += 1
    assert min(seen.values()) >= 5


@pytest.mark.parametrize(("epsilon", "status"), [(0.08, "robust"), (0.12, "broken")])
def test_a_planted_adversary_is_found_where_it_is_and_only_there(epsilon: float, status: str) -> None:
    model, (x, _) = planted_threshold(0.1), grey(5)
    for row in x.numpy():
        verdict = verify(model, row, 0, epsilon, seconds=30)
        assert verdict.status == status
        assert status == "robust" or confirmed(model, row, 0, epsilon, verdict)


@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_attacks_never_contradict_a_proof(threshold: float) -> None:
    model = digits_net(threshold=threshold)
    ((x, labels),) = digits().batches("test", 10_000)
    generator, seen = torch.Generator().manual_seed(0), set()
    for row, label in list(zip(x, labels.tolist(), strict=True))[:20]:
        epsilon = 0.15 if threshold else 0.05
        verdict = verify(model, row.numpy(), label, epsilon, seconds=30)
        seen.add(verdict.status)
        if verdict.status == "broken":
            assert confirmed(model, row.numpy(), label, epsilon, verdict)
            continue
        assert verdict.status == "robust"
        tries = row + epsilon * torch.rand((2000, *row.shape), generator=generator).mul_(2).sub_(1).sign_()
        for _ in range(3):
            assert bool((model(tries.clamp(0, 1)).argmax(1) == label).all())
            tries.requires_grad_()
            with straight_through():
                loss = cross_entropy(model(tries), torch.full((2000,), label))
            (gradient,) = torch.autograd.grad(loss, tries)
            moved = tries.detach() + 0.5 * epsilon * gradient.sign()
            tries = torch.maximum(torch.minimum(moved, row + epsilon), row - epsilon)
    assert seen == {"robust", "broken"}


def test_what_is_wrong_without_an_attack_is_its_own_adversary() -> None:
    model, x = lattice_net(0, inputs=4, hidden=3, classes=3), np.full((1, 2, 2), 0.5, np.float32)
    model = nn.Sequential(nn.Flatten(), *model)
    wrong = (int(model(torch.from_numpy(x)[None]).argmax()) + 1) % 3
    verdict = verify(model, x, wrong, 0.0, seconds=30)
    assert verdict.status == "broken"
    assert verdict.adversary is not None and np.array_equal(verdict.adversary, x)


def step_at(threshold: float, lead: float = 1.0, *, rising: bool = True) -> nn.Sequential:
    """One input, two classes: class 1 leads by ``lead`` where the input is at least ``threshold``, class 0 elsewhere."""
    model = nn.Sequential(nn.Linear(1, 1), Heaviside(), nn.Linear(1, 2)).requires_grad_(False)
    for value, parameter in zip((1.0, -threshold, 0.0, 0.0), model.parameters(), strict=True):
        parameter.fill_(value)
    model[2].weight[int(rising)] = 1.0 + lead  # type: ignore[union-attr, index, operator]
    model[2].bias[1 - int(rising)] = 1.0  # type: ignore[union-attr, index, operator]
    return model


HALF = np.array([0.5], np.float32)


def test_bits_within_the_margin_prove_nothing_but_a_forward_pass_does() -> None:
    # the greatest input in the ball is 0.6: 5e-5 short of the step, which float32 might take for a hit
    assert verify(step_at(0.6 + 5e-5), HALF, 0, 0.1, seconds=30).status == "undecided"
    assert verify(step_at(0.6 + 5e-5), HALF, 0, 0.1, seconds=30, margin=1e-5).status == "robust"
    assert verify(step_at(0.6 + 5e-4), HALF, 0, 0.1, seconds=30).status == "robust"
    assert verify(step_at(0.6 - 5e-5), HALF, 0, 0.1, seconds=30).status == "broken"


def test_ties_count_against_the_network() -> None:
    # beyond the step both logits are equal, and the first class is the answer
    assert verify(step_at(0.55, 0.0), HALF, 0, 0.1, seconds=30).status == "undecided"  # right, but by the tie alone
    assert verify(step_at(0.55, 0.0, rising=False), HALF, 1, 0.1, seconds=30).status == "broken"


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_a_tie_where_nothing_can_move_is_undecided(threshold: float | None) -> None:
    first = [] if threshold is None else [InputThreshold(threshold)]
    model = nn.Sequential(*first, *step_at(0.4, 0.0))
    for epsilon in (0.0, 0.05):  # no input can move, or no unit turns
        verdict = verify(model, HALF, 0, epsilon, seconds=30)
        assert (verdict.status, verdict.adversary, verdict.bound) == ("undecided", None, 0.0)


@pytest.mark.parametrize(("bias", "status"), [(0.0, "undecided"), (0.5, "robust")])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_network_without_units_has_one_answer(bias: float, status: str) -> None:
    model = nn.Sequential(nn.Linear(1, 0), Heaviside(), nn.Linear(0, 2)).requires_grad_(False)
    model[2].bias.copy_(torch.tensor([bias, 0.0]))  # type: ignore[union-attr, operator]
    assert verify(model, HALF, 0, 0.1, seconds=30).status == status


def test_a_pixel_at_the_rounded_edge_of_the_ball_is_decided_by_the_ball_to_the_last_bit() -> None:
    model = nn.Sequential(InputThreshold(0.5), *step_at(0.5, rising=False))  # class 1 for a dark pixel
    # 153 / 255 = 0.6 in reals, a little more in float32: the nearest dark pixel is 5e-8 outside the ball
    for pixel, status in ((152, "broken"), (153, "robust"), (154, "robust")):
        x = np.array([pixel / 255], np.float32)
        verdict = verify(model, x, 0, 0.1, seconds=30)
        assert verdict.status == status
        assert status != "broken" or confirmed(model, x, 0, 0.1, verdict)
    least = np.nextafter(np.float32(0.5), np.float32(0))
    assert float(np.float32(153 / 255)) - float(least) > 0.1 and int(model(torch.tensor([[least]])).argmax()) == 1


def test_out_of_time_is_undecided_and_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    model = lattice_net(1, inputs=40, hidden=40, classes=2, threshold=0.5)
    x = np.linspace(0.3, 0.7, 40, dtype=np.float32)
    label = int(model(torch.from_numpy(x)[None]).argmax())
    model[3].bias[label] += 28.0  # type: ignore[union-attr, index, operator]  # safe, but not by intervals
    verdict = verify(model, x, label, 0.3, seconds=0)
    assert verdict.status == "undecided" and verdict.adversary is None and verdict.bound > 0
    assert verify(model, x, label, 0.3, seconds=60).status == "robust"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), "Linear, ReLU, Linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "Linear"),
        (
            nn.Sequential(nn.Linear(4, 3), Heaviside(), nn.Linear(3, 3), Heaviside(), nn.Linear(3, 2)),
            "Linear, Heaviside, Linear, Heaviside, Linear",
        ),
        (nn.Linear(4, 2), "Linear"),
    ],
)
def test_other_architectures_are_refused(model: nn.Module, found: str) -> None:
    with pytest.raises(UserError, match=f"this network has {found}; use --attack bpda-pgd"):
        threshold_network(model)


@pytest.mark.parametrize(
    ("x", "label", "epsilon", "message"),
    [
        (np.zeros(3, np.float32), 0, 0.1, "float32 of 3 values; the network takes float32 of 4"),
        (np.zeros(4), 0, 0.1, "float64 of 4 values"),
        (np.full(4, 1.5, np.float32), 0, 0.1, r"outside \[0, 1\]"),
        (np.full(4, np.nan, np.float32), 0, 0.1, r"outside \[0, 1\]"),
        (np.zeros(4, np.float32), 3, 0.1, "classes 0 to 2"),
        (np.zeros(4, np.float32), 0, -0.1, "--epsilon -0.1: must be"),
        (np.zeros(4, np.float32), 0, float("nan"), "--epsilon nan: must be"),
    ],
)
def test_what_cannot_be_asked_is_refused(x: NDArray[np.float32], label: int, epsilon: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        verify(lattice_net(0, inputs=4, hidden=3, classes=3), x, label, epsilon, seconds=1)
