"""The estimator's pieces against hand-computed values and sums over single copies."""

from __future__ import annotations

import mpmath  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig
from glr_dist.core.estimator import advantages, copy_scores, error_signal, pullback
from glr_dist.errors import UserError

FAMILIES = ["gaussian", "laplace"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EstimatorConfig(scheme="layer-wise"), "estimator.scheme = 'layer-wise': unknown; did you mean 'layerwise'?"),
        (EstimatorConfig(baseline="leaveout"), "estimator.baseline = 'leaveout': unknown; did you mean 'leave-out'?"),
        (EstimatorConfig(copies=0), "estimator.copies = 0: must be at least 1"),
        (EstimatorConfig(copies=-2), "estimator.copies = -2: must be at least 1"),
        (EstimatorConfig(copies=7), "estimator.copies = 7: antithetic pairs need an even number; use 8"),
        (EstimatorConfig(copies=2), "estimator.copies = 2: a leave-pair-out baseline needs at least 4 copies"),
        (
            EstimatorConfig(copies=1, antithetic=False),
            "estimator.copies = 1: a leave-one-out baseline needs at least 2 copies",
        ),
        (
            EstimatorConfig(base_draws=2),
            "changes nothing under estimator.scheme = 'layerwise'; leave it out, or use estimator.scheme = 'flips' or",
        ),
        (
            EstimatorConfig(scheme="joint", flips=(8,)),
            "estimator.flips = (8,): changes nothing under estimator.scheme = 'joint'",
        ),
        (
            EstimatorConfig(base_draws=2, base_antithetic=True),
            "estimator.base_draws = 2: changes nothing under estimator.scheme = 'layerwise'",
        ),
        (
            EstimatorConfig(scheme="flips", conditioning=False),
            "changes nothing under estimator.scheme = 'flips'; leave it out, or use estimator.scheme = 'layerwise' or",
        ),
    ],
)
def test_wrong_settings_are_named(config: EstimatorConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        config.check()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        EstimatorConfig(),
        EstimatorConfig(copies=4),
        EstimatorConfig(copies=2, baseline="none"),
        EstimatorConfig(copies=1, baseline="none", antithetic=False),
        EstimatorConfig(copies=3, antithetic=False),
        EstimatorConfig(conditioning=False),
        EstimatorConfig(scheme="flips", base_draws=2, base_antithetic=True, flips=(8,)),
        EstimatorConfig(scheme="joint-flips", base_draws=2),
    ],
)
def test_right_settings_pass(config: EstimatorConfig) -> None:
    config.check()


def test_leave_one_out_by_hand() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1)
    assert advantages(losses, "leave-out").flatten().tolist() == [1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5]


def test_leave_pair_out_by_hand() -> None:
    # pairs (1, 3), (2, 6), (0, 4): each baseline is the mean of the four losses of the other pairs
    losses = torch.tensor([[1.0, 2.0, 0.0], [3.0, 6.0, 4.0]]).unsqueeze(-1)
    found = advantages(losses, "leave-out").squeeze(-1)
    assert found.tolist() == [[1.0 - 3.0, 2.0 - 2.0, 0.0 - 3.0], [3.0 - 3.0, 6.0 - 2.0, 4.0 - 3.0]]


def test_no_baseline_leaves_the_losses() -> None:
    losses = torch.randn(2, 3, 4)
    assert torch.equal(advantages(losses, "none"), losses)


def test_examples_do_not_share_baselines() -> None:
    losses = torch.randn(2, 3, 4)
    alone = torch.cat([advantages(losses[..., r : r + 1], "leave-out") for r in range(4)], dim=-1)
    torch.testing.assert_close(advantages(losses, "leave-out"), alone)


def exact_score(family: str, eps: float) -> float:
    return eps if family == "gaussian" else (eps > 0) - (eps < 0)


def exact_bit_score(family: str, z: float, bit: bool) -> float:
    """d/dz log P(bit | z), standard noise, by numerical differentiation with 50 digits."""

    def log_chance(t: mpmath.mpf) -> mpmath.mpf:
        t = t if bit else -t
        if family == "gaussian":
            return mpmath.log(mpmath.erfc(-t / mpmath.sqrt(2)) / 2)
        tail = mpmath.exp(-abs(t)) / 2
        return mpmath.log(tail if t < 0 else 1 - tail)

    with mpmath.workdps(50):
        return float(mpmath.diff(log_chance, mpmath.mpf(z)))


def summed_over_copies(
    family: str, scale: float, advantage: Tensor, eps: Tensor, z: Tensor | None, copies: int
) -> Tensor:
    """The error signal as the textbook has it: one copy, one example, one unit at a time."""
    signs, draws, rows = advantage.shape
    total = torch.zeros(eps.shape[1:], dtype=torch.float64)
    for s in range(signs):
        for p in range(draws):
            for r in range(rows):
                for n in range(eps.shape[2]):
                    noise = float(eps[p, r, n]) * (1, -1)[s]
                    if z is None:
                        value = exact_score(family, noise)
                    else:
                        bit = float(z[r, n]) + scale * noise >= 0
                        value = exact_bit_score(family, float(z[r, n]) / scale, bit)
                    total[r, n] += float(advantage[s, p, r]) * value / scale / copies
    return total


def material(signs: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    draws, rows, units = 3, 2, 4
    return (
        torch.randn(signs, draws, rows, generator=generator),
        torch.randn(draws, rows, units, generator=generator),
        torch.randn(rows, units, generator=generator),
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("signs", [1, 2])
@pytest.mark.parametrize("conditioned", [True, False])
def test_error_signal_is_the_sum_over_copies(family: str, signs: int, conditioned: bool) -> None:
    advantage, eps, z = material(signs)
    condition = z if conditioned else None
    found = error_signal(family, 0.7, advantage, eps, condition, 11)
    expected = summed_over_copies(family, 0.7, advantage, eps, condition, 11)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_of_single_copies_sum_to_the_error_signal(family: str, conditioned: bool, sign: float) -> None:
    advantage, eps, z = material(1)
    spread = z.expand_as(eps) if conditioned else None
    scores = copy_scores(family, 0.7, eps, spread, sign)
    found = (advantage[0].unsqueeze(-1) * scores).sum(0) / 11
    expected = summed_over_copies(family, 0.7, advantage, sign * eps, z if conditioned else None, 11)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_error_signal_keeps_the_shape_of_a_feature_map() -> None:
    eps, z = torch.randn(3, 2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    advantage = torch.randn(2, 3, 2)
    for condition in (z, None):
        found = error_signal("gaussian", 1.0, advantage, eps, condition, 6)
        flat = error_signal("gaussian", 1.0, advantage, eps.flatten(2), None if condition is None else z.flatten(1), 6)
        torch.testing.assert_close(found, flat.view_as(z))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [20.0, 1e3, 1e4])
def test_a_saturated_unit_gets_a_finite_and_vanishing_signal(family: str, size: float) -> None:
    # its bit never turns, so the huge score of the other bit must not leak in through rounding
    advantage, eps, _ = material(2)
    z = torch.full((2, 4), size) * torch.tensor([1.0, -1.0, 1.0, -1.0])
    scores = copy_scores(family, 1.0, eps, z.expand_as(eps))
    assert torch.isfinite(scores).all() and scores.abs().max() < 1e-8
    assert error_signal(family, 1.0, advantage, eps, z, 6).abs().max() < 1e-8


@pytest.mark.parametrize("size", [20.0, 1e3, 1e4])
def test_a_bit_against_all_odds_has_a_finite_score(size: float) -> None:
    z, eps = torch.tensor([[[-size, size]]]), torch.tensor([[[2 * size, -2 * size]]])
    expected = torch.tensor([exact_bit_score("gaussian", -size, True), exact_bit_score("gaussian", size, False)])
    torch.testing.assert_close(copy_scores("gaussian", 1.0, eps, z).flatten(), expected, rtol=1e-6, atol=0)
    found = error_signal("gaussian", 1.0, torch.ones(1, 1, 1), eps, z[0], 1)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-6, atol=0)


def test_pullback_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0]], requires_grad=True)
    unused = torch.zeros(3, requires_grad=True)
    x, d = torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([[10.0], [100.0]])
    found, nothing = pullback([(x @ weight.t(), d)], [weight, unused])
    assert found.tolist() == [[530.0, 640.0]]
    assert nothing.tolist() == [0.0, 0.0, 0.0]
