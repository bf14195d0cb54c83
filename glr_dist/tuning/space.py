"""Which values a tuning tries: an axis for every key, and a sequence of points that fills them evenly.

They are those of Halton (1960), shifted at random: on axis j, point n is n's digits to the j-th prime in reverse, behind the
point. The sequence goes on for ever, so nobody need know how many trials there will be.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from glr_dist.config import Config, config_toml, parse_config
from glr_dist.core.config import TURNING
from glr_dist.core.sites import Site
from glr_dist.errors import UserError
from glr_dist.methods.method import named_method
from glr_dist.seeds import Purpose, seed_of

TABLES = ("noise", "estimator", "optimizer", "schedule", "augment")  # whose keys may be tried, and so may batch
_WIDE = 64  # units of a layer from which on drawing its flips may pay

Tries = Mapping[str, "tuple[float, float] | Sequence[Any] | None"]


@dataclass(frozen=True)
class Span:
    """Numbers from low to high, both above 0, evenly by their logarithm; ``whole``: whole ones alone."""

    low: float
    high: float
    whole: bool = False

    def at(self, share: float) -> float:
        """The value at a share of the way, in [0, 1): with three digits, for people to read."""
        value = float(f"{self.low * (self.high / self.low) ** share:.3g}")
        return round(value) if self.whole else value

    @property
    def ends(self) -> tuple[Any, ...]:
        """Its outermost values."""
        return self.at(0.0), self.at(1.0)


@dataclass(frozen=True)
class Choice:
    """Some values."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at a share of the way, in [0, 1)."""
        return self.values[int(share * len(self.values))]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values


@dataclass(frozen=True, kw_only=True)
class Space:
    """The axes of a search by their dotted keys, and the seed of its points."""

    axes: Mapping[str, Span | Choice]
    seed: int

    @classmethod
    def of(cls, config: Config, sites: Sequence[Site], tries: Tries | None = None) -> Space:
        """The axes that fit a config whose network has these sites.

        Args:
            config: where the search begins.
            sites: of its network.
            tries: by key, (low, high) or a list of values, in place of the usual ones or beside them; None: the usual
                ones of a key that is left out otherwise, as weight decay is.

        Raises:
            UserError: for a key that can't be tried, or values that the config refuses.
        """
        axes, spare = usual_axes(config, sites)
        for key, values in (tries or {}).items():
            axes[key] = _axis(config, key, values, axes | spare)
            found = tuple(value_of(with_values(config, {key: value}), key) for value in axes[key].ends)
            if isinstance(axes[key], Choice):
                axes[key] = Choice(found)  # as the config has them, for whom "8" is a number
        return cls(axes=axes, seed=config.seed)

    def values(self, number: int) -> dict[str, Any]:
        """What trial ``number`` sets, by key; nothing in trial 0, which is the config as it is given."""
        if number == 0:
            return {}
        shifts = np.random.default_rng(seed_of(self.seed, Purpose.TUNING)).random(len(self.axes)).tolist()
        primes = (p for p in itertools.count(2) if all(p % q for q in range(2, p)))
        return {
            key: axis.at((shift + reversed_digits(number, prime)) % 1.0)
            for (key, axis), shift, prime in zip(
                self.axes.items(), shifts, primes, strict=False
            )  # there are more primes
        }


def reversed_digits(number: int, base: int) -> float:
    """A number's digits behind the point in reverse, in [0, 1): 6 to base 2 is 110, which makes 0.011, or 3/8."""
    share, unit = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        unit /= base
        share += digit * unit
    return share


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A config with other values of some dotted keys.

    Raises:
        UserError: for values that can't be, or that nothing would look at.
    """
    return parse_config(config_toml(config), values)


def value_of(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, key.split("."), config)


def usual_axes(config: Config, sites: Sequence[Site]) -> tuple[dict[str, Span | Choice], dict[str, Span | Choice]]:
    """What is tried where nobody says otherwise, and what is tried when it is named."""
    method, estimator, name = named_method(config.method), config.estimator, config.optimizer.name
    axes: dict[str, Span | Choice] = {"optimizer.lr": Span(3e-3, 1.0) if name == "sgd" else Span(3e-4, 3e-2)}
    copies = Choice((8, 16, 32, 64, 128))
    decay = Span(1e-2, 1.0) if name == "adamw" else Span(1e-6, 1e-3)
    if method.noises == "nothing":
        return axes, {"optimizer.weight_decay": decay}
    axes["noise.scale"] = Span(5e-3, 0.2) if method.noises == "weights" else Span(0.1, 3.0)
    turned = [site.size for site in sites if site.binary] if estimator.scheme in TURNING and method.observes else []
    if turned and method.noises == "neurons":
        axes["estimator.base_draws"] = Choice((2, 4, 8) if estimator.base_antithetic else (1, 2, 4))
        if (narrowest := min(turned)) >= _WIDE:
            axes["estimator.flips"] = Choice((0, narrowest // 2, narrowest // 4, narrowest // 8))
    else:
        axes["estimator.copies"] = copies
    return axes, {"optimizer.weight_decay": decay, "estimator.copies": copies}


def _axis(config: Config, key: str, values: Any, usual: Mapping[str, Span | Choice]) -> Span | Choice:
    table, _, name = key.rpartition(".")
    if key != "batch" and not (table in TABLES and hasattr(getattr(config, table), name)):
        raise UserError(f"--try {key}: can't be tried; choose from batch and the keys of {', '.join(TABLES)}")
    if values is None:
        if key not in usual:
            raise UserError(f"--try {key}: has no usual values; write it as {key}=LOW:HIGH, or {key}=VALUE,VALUE")
        return usual[key]
    if not isinstance(values, tuple):
        return Choice(tuple(values))
    low, high = values
    if not 0 < low < high < np.inf:
        raise UserError(f"--try {key}={low}:{high}: write the lower one first, both above 0")
    return Span(low, high, whole=isinstance(value_of(config, key), int))
