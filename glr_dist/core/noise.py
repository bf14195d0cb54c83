"""Noise: its families (density, score, conditioned score) and its sources (where the same draw is found again).

Everything here is in *standard* units: ``eps`` has scale 1, the noise that a site sees is ``scale * eps``, and a score
in the site's units is the standard score divided by the scale (Gaussian: sigma, the standard deviation; Laplace: b,
whose standard deviation is ``b * sqrt(2)``).

The score is minus the derivative of the log density: ``eps`` for the Gaussian, ``sign(eps)`` for Laplace noise.

Conditioned on the bit ``[z + eps >= 0]`` its expectation is ``d/dz log P(bit | z)``: the hazard ``f(z)/F(z)`` for bit 1 and
``-f(z)/F(-z)`` for bit 0 (f, F: density and CDF, both symmetric). The Gaussian hazard, the inverse Mills ratio, is
computed as ``sqrt(2/pi) / erfcx(-z/sqrt(2))``, which neither over- nor underflows: it is finite and exact to a few ulp
for any z that float32 holds, where ``exp(log f - log F)`` loses all its digits beyond ``|z|`` of a few thousand.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glr_dist.core.config import NoiseConfig
from glr_dist.errors import UserError

_ALIGNMENT = 16  # table slices start at multiples of 16 float32, one cache line


def score(family: str, eps: Tensor) -> Tensor:
    """Minus the derivative of the log density at standard noise ``eps`` (any shape)."""
    return eps if family == "gaussian" else eps.sign()


def density(family: str, eps: Tensor) -> Tensor:
    """The density f of the standard noise, elementwise."""
    if family == "gaussian":
        return torch.exp(-0.5 * eps * eps) * (1.0 / math.sqrt(2.0 * math.pi))
    return 0.5 * torch.exp(-eps.abs())


def cumulative(family: str, eps: Tensor) -> Tensor:
    """The distribution function F of the standard noise, elementwise: uniform where eps is a draw."""
    if family == "gaussian":
        below: Tensor = torch.special.ndtr(eps.double())
        return below
    tail = 0.5 * torch.exp(-eps.double().abs())
    return torch.where(eps >= 0, 1.0 - tail, tail)


def hazard(family: str, z: Tensor) -> Tensor:
    """f(z) / F(z) of the standard noise, elementwise: the score's expectation given ``eps >= -z``, finite for finite z."""
    return hazards(family, z)[0]


def hazards(family: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """`hazard` of z and of -z, for the price of one."""
    size = z.abs()
    if family == "gaussian":
        lower = _scaled_erfc(size * math.sqrt(0.5))
        upper = 2.0 * torch.exp(0.5 * size * size) - lower  # erfcx(-x) = 2 exp(x^2) - erfcx(x)
        thin, fat = math.sqrt(2.0 / math.pi) / upper, math.sqrt(2.0 / math.pi) / lower
    else:
        tail = 0.5 * torch.exp(-size)  # 1 - F(|z|)
        thin, fat = tail / (1.0 - tail), torch.ones_like(z)
    positive = z >= 0
    return torch.where(positive, thin, fat), torch.where(positive, fat, thin)


def _fit_scaled_erfc() -> list[float]:
    """Coefficients, highest first, of a polynomial in t = (x-2)/(x+2) that gives (1 + 2x) erfcx(x) for x >= 0."""

    def exact(t: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(2.0 * (1.0 + t) / (1.0 - t))
        values: np.ndarray = ((1.0 + 2.0 * x) * torch.special.erfcx(x)).numpy()
        return values

    polynomial = np.polynomial.Chebyshev.interpolate(exact, 10).convert(kind=np.polynomial.Polynomial)
    return [float(c) for c in polynomial.coef[::-1]]


_SCALED_ERFC = _fit_scaled_erfc()


def _scaled_erfc(x: Tensor) -> Tensor:
    """The scaled complementary error function of x >= 0 to 3e-7 relative, ten times faster than torch's own in float32."""
    t = (x - 2.0) / (x + 2.0)
    value = torch.full_like(t, _SCALED_ERFC[0])
    for coefficient in _SCALED_ERFC[1:]:
        value.mul_(t).add_(coefficient)
    return value / (1.0 + 2.0 * x)


def draw(family: str, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard noise of the given shape on the generator's device, float32."""
    device = generator.device
    if family == "gaussian":
        return torch.randn(tuple(shape), generator=generator, device=device)
    # Laplace by inversion: u in (-1, 1], eps = -sign(u) log(1 - |u|); 1 - |u| is kept off 0 by half a float32 step
    u = torch.rand(tuple(shape), generator=generator, device=device).mul_(2.0).sub_(1.0)
    tail = (1.0 - u.abs()).clamp_min_(2.0**-25)
    return -u.sign() * torch.log(tail)


@dataclass(frozen=True)
class GeneratorSource:
    """A fresh ``torch.Generator`` per unit. CPU and GPU give different values for one seed, so never mix them."""

    family: str
    device: str = "cpu"

    def values(self, seed: np.random.SeedSequence, count: int) -> Tensor:
        """``count`` standard noise values drawn from the seed, float32 [count]."""
        generator = torch.Generator(device=self.device)
        if generator.device.type == "cpu":
            generator.set_state(_mersenne_state(seed))
        else:
            generator.manual_seed(_integer(seed))
        return draw(self.family, (count,), generator)


def _integer(seed: np.random.SeedSequence) -> int:
    """63 bits of a seed, as ``manual_seed`` takes it."""
    return int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _mersenne_state(seed: np.random.SeedSequence) -> Tensor:
    """The state of a CPU generator, all its 624 words from the seed, uint8 [5056].

    ``manual_seed`` looks at 32 bits on the CPU: among a few hundred thousand units, some would share their noise.
    """
    state = torch.Generator().manual_seed(0).get_state().numpy().view(np.uint64)
    assert state.size == 632 and state[3] == 0 and state[4] == 1  # seed, left and seeded, next, 624 words, 5 unused
    state[3:627] = seed.generate_state(624)
    state[3] = 2**31  # as numpy.random.MT19937 does: never all zeros
    return torch.from_numpy(state.view(np.uint8))


class TableSource:
    """Slices of one table of noise, float32 [size]: the same on every machine and device, a memory read and no draw.

    An estimate is unbiased over tables and offsets; given one table it carries that table's own sampling error, of
    relative size ``1/sqrt(table_size)``. Slices of different units may overlap.
    """

    def __init__(self, family: str, table: Tensor) -> None:
        assert table.dtype == torch.float32 and table.dim() == 1
        self.family = family
        self.table = table
        self._size = table.numel()

    @classmethod
    def make(cls, family: str, size: int, seed: np.random.SeedSequence) -> TableSource:
        """A table of ``size`` values drawn on the CPU, whatever device it is used on later."""
        return cls(family, draw(family, (size,), torch.Generator().manual_seed(_integer(seed))))

    def values(self, seed: np.random.SeedSequence, count: int) -> Tensor:
        """``count`` values from an offset that the seed gives, float32 [count], a view of the table: not to be written to.

        Raises:
            UserError: when the table is smaller than what one unit needs.
        """
        room = self._size - count
        if room < 0:
            raise UserError(
                f"noise.table_size = {self._size}: one work unit needs {count} values;"
                f" raise noise.table_size, or lower units.copies or units.rows"
            )
        offsets = room // _ALIGNMENT + 1
        start = int(seed.generate_state(1, np.uint64)[0]) % offsets * _ALIGNMENT
        return self.table[start : start + count]


NoiseSource = GeneratorSource | TableSource  # the same seed and size always give the same values


def noise_source(noise: NoiseConfig, table: np.ndarray | None, device: torch.device) -> NoiseSource:
    """The source that a worker on ``device`` draws from; without the run's table a generator, whatever the config says.

    The table, float32 [table_size], may be read-only.
    """
    if noise.source == "generator" or table is None:
        return GeneratorSource(noise.family, str(device))
    with warnings.catch_warnings():
        # the table lies read-only in the object store, and nobody writes to it
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return TableSource(noise.family, torch.from_numpy(table).to(device))
