"""Noise families against mpmath, autograd and Kolmogorov-Smirnov; sources: the same seed, the same noise."""

from __future__ import annotations

import math
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from glr_dist.core.config import NoiseConfig
from glr_dist.core.noise import GeneratorSource, NoiseSource, TableSource, draw, hazard, hazards, score
from glr_dist.errors import UserError

FAMILIES = ["gaussian", "laplace"]
DISTRIBUTION = {"gaussian": stats.norm, "laplace": stats.laplace}


def seed(*key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(5, spawn_key=key)


def sources(family: str) -> list[NoiseSource]:
    return [GeneratorSource(family), TableSource.make(family, 4096, seed(9))]


def exact_hazard(family: str, z: float) -> float:
    """f(z) / F(z) with 60 digits, at the very float32 number that the code sees."""
    with mpmath.workdps(60):
        t = mpmath.mpf(z)
        if family == "gaussian":
            # far below 0 mpmath's own ncdf is 1 - 1; erfc keeps its digits
            return float(mpmath.npdf(t) / (mpmath.erfc(-t / mpmath.sqrt(2)) / 2))
        tail = mpmath.exp(-abs(t)) / 2
        return float(tail / (tail if t < 0 else 1 - tail))


@pytest.mark.parametrize("family", FAMILIES)
def test_hazard_equals_sixty_digit_arithmetic(family: str) -> None:
    z = torch.cat([torch.linspace(-40, 4, 441), -torch.logspace(1, 4, 61), torch.tensor([0.0, -0.0])])
    exact = torch.tensor([exact_hazard(family, v) for v in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(hazard(family, z).double(), exact, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_hazard_of_a_likely_bit_loses_few_digits_as_it_vanishes(family: str) -> None:
    # relative errors grow with z^2 for the Gaussian, where the value itself is below 1e-4
    z = torch.cat([torch.linspace(4, 12, 81), torch.logspace(1.1, 4, 59)])
    exact = torch.tensor([exact_hazard(family, v) for v in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(hazard(family, z).double(), exact, rtol=2e-5, atol=1e-37)


@pytest.mark.parametrize("family", FAMILIES)
def test_hazards_are_finite_and_both_signs_agree_up_to_ten_thousand_scales(family: str) -> None:
    z = torch.cat([sign * torch.logspace(-6, 4, 2001) for sign in (1, -1)])
    of_z, of_minus_z = hazards(family, z)
    assert torch.isfinite(of_z).all() and (of_z >= 0).all()
    assert torch.equal(of_z, hazard(family, z))
    assert torch.equal(of_minus_z, hazard(family, -z))


@pytest.mark.parametrize("family", FAMILIES)
def test_score_is_minus_the_derivative_of_the_log_density(family: str) -> None:
    laws = {"gaussian": torch.distributions.Normal(0.0, 1.0), "laplace": torch.distributions.Laplace(0.0, 1.0)}
    eps = torch.linspace(-5, 5, 100).requires_grad_()
    (slope,) = torch.autograd.grad(laws[family].log_prob(eps).sum(), eps)
    torch.testing.assert_close(score(family, eps.detach()), -slope)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [7, 100_000])  # few values are drawn by other code than many
def test_draws_follow_their_distribution(family: str, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    eps = torch.cat([draw(family, (count,), generator) for _ in range(100_000 // count)]).double().numpy()
    assert stats.kstest(eps, DISTRIBUTION[family].cdf).pvalue > 0.001
    assert np.isfinite(eps).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_its_noise_again_and_other_seeds_give_other_noise(family: str) -> None:
    def equal_shares(a: Tensor, b: Tensor) -> float:
        return float((a == b).float().mean())

    for source, again in zip(sources(family), sources(family), strict=True):
        first = source.values(seed(3, 1, 0), 100)
        assert torch.equal(first, again.values(seed(3, 1, 0), 100))
        for other in (seed(3, 1, 1), seed(3, 2, 0), seed(4, 1, 0), np.random.SeedSequence(6, spawn_key=(3, 1, 0))):
            assert equal_shares(first, source.values(other, 100)) < 0.1


class Words(np.random.SeedSequence):
    """A seed whose first 64 bits are the same as those of all others of its kind."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        words = super().generate_state(n_words, dtype)
        words[: 8 // words.itemsize] = 5
        return words


def test_seeds_that_begin_alike_give_other_noise_on_the_cpu() -> None:
    first, second = (GeneratorSource("gaussian").values(Words(entropy), 100) for entropy in (1, 2))
    assert float((first == second).float().mean()) < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_of_many_small_units_follows_its_distribution(family: str) -> None:
    source = GeneratorSource(family)
    eps = np.concatenate([source.values(seed(unit), 50).double().numpy() for unit in range(2000)])
    assert stats.kstest(eps, DISTRIBUTION[family].cdf).pvalue > 0.001


def test_table_slices_start_at_cache_lines_and_reach_both_ends() -> None:
    source = TableSource("gaussian", torch.arange(1024, dtype=torch.float32))
    starts = [int(source.values(seed(i), 100)[0]) for i in range(2000)]
    assert {start % 16 for start in starts} == {0}
    assert min(starts) == 0 and max(starts) == (1024 - 100) // 16 * 16
    assert len(set(starts)) == (1024 - 100) // 16 + 1  # every offset is used


def test_a_slice_may_be_the_whole_table_but_no_more() -> None:
    source = TableSource.make("laplace", 1024, seed(0))
    assert torch.equal(source.values(seed(1), 1024), source.table)
    with pytest.raises(UserError, match=r"noise\.table_size = 1024: one work unit needs 1025 values"):
        source.values(seed(1), 1025)


def test_a_slice_is_a_view_and_no_copy() -> None:
    source = TableSource.make("gaussian", 1024, seed(0))
    values = source.values(seed(1), 64)
    assert values.untyped_storage().data_ptr() == source.table.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NoiseConfig(family="gausian"), "noise.family = 'gausian': unknown; did you mean 'gaussian'?"),
        (NoiseConfig(source="tabel"), "noise.source = 'tabel': unknown; did you mean 'table'?"),
        (NoiseConfig(scale=0.0), "noise.scale = 0.0: must be a finite number above 0"),
        (NoiseConfig(scale=-1.0), "noise.scale = -1.0"),
        (NoiseConfig(scale=math.nan), "noise.scale = nan"),
        (NoiseConfig(scale=math.inf), "noise.scale = inf"),
        (NoiseConfig(table_size=1000), "noise.table_size = 1000: must be at least 1024"),
    ],
)
def test_wrong_settings_are_named(config: NoiseConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        config.check()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
