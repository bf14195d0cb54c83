"""How much of a step's gradient is signal, layer by layer: the same step is estimated twice, and the two are compared.

Both estimates, g1 and g2, are made at the same parameters on the same rows, each with noise of its own. Of the parameters
of one layer:

    cosine                                = g1.g2 / (|g1| |g2|)
    signal-to-noise ratio of (g1 + g2)/2  = sqrt(max(0, g1.g2)) / (|g1 - g2| / 2)

As their noises are independent, g1.g2 is an unbiased estimate of the squared length of the gradient, and |g1 - g2|^2 / 4 of
the noise in their mean. The training steps by g1 alone, whose ratio is smaller by sqrt(2).

Shapes: D trained parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from glr_dist.engine.task import Task

_WEAK = 1.0  # signal-to-noise ratio below which a layer's steps are more noise than signal
_PATIENCE = 5  # diagnoses in a row that find a layer weak before anybody is told


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What two estimates of one layer's gradient have in common.

    Attributes:
        cosine: of the angle between them; None where one of them is 0.
        snr: signal-to-noise ratio of their mean; None where they don't differ, so that no noise was seen.
    """

    cosine: float | None
    snr: float | None


def signal(first: np.ndarray, second: np.ndarray) -> Signal:
    """Compare two estimates of one gradient, float32 of one length each, made with noise that is independent."""
    g1, g2 = first.astype(np.float64), second.astype(np.float64)
    common, lengths = float(g1 @ g2), float(np.linalg.norm(g1) * np.linalg.norm(g2))
    noise = float(np.linalg.norm(g1 - g2)) / 2
    return Signal(
        cosine=common / lengths if lengths else None,
        snr=math.sqrt(max(0.0, common)) / noise if noise else None,
    )


def signals(first: np.ndarray, second: np.ndarray, layers: Mapping[str, Sequence[slice]]) -> dict[str, Signal]:
    """`signal` of each layer; the gradients are float32 [D], ``layers`` says where each has its parameters in them."""
    return {
        name: signal(*(np.concatenate([gradient[part] for part in parts]) for gradient in (first, second)))
        for name, parts in layers.items()
    }


def layer_slices(task: Task) -> dict[str, list[slice]]:
    """Where the parameters of each layer with noise sites lie in a gradient [D], by the layer's name in the model."""
    places: dict[int, slice] = {}
    end = 0
    for p in task.trainable.values():
        start, end = end, end + p.numel()
        places[id(p)] = slice(start, end)
    modules = dict(task.seen(task.model).named_modules())
    layers = {
        name or "model": [places[id(p)] for p in modules[name].parameters(recurse=False) if id(p) in places]
        for name in dict.fromkeys(site.module for site in task.sites)
    }
    return {name: parts for name, parts in layers.items() if parts}


@dataclass(eq=False)
class Diagnosis:
    """Looks at a step of a run now and then, in the middle of each ``every`` of them, and warns once; 0: never looks.

    Which steps these are hangs on their number alone, so that a resumed run looks at the same ones.
    """

    task: Task
    every: int
    say: Callable[[str], None]
    weakest: tuple[str, float] | None = None  # the layer of the lowest ratio at the latest look, and it
    _weak: dict[str, int] = field(default_factory=dict)  # by layer: looks in a row that found it weak
    _told: bool = False

    def __post_init__(self) -> None:
        self._layers = layer_slices(self.task)

    def due(self, step: int) -> bool:
        """Whether to look at a step, counted from 1."""
        return bool(self.every and self.task.method.observes and step % self.every == self.every // 2)

    def figures(self, step: int, first: np.ndarray, second: np.ndarray) -> dict[str, float | None]:
        """What two estimates of a step's gradient, float32 [D], say: ``snr/LAYER`` and ``cosine/LAYER`` of each layer."""
        found = signals(first, second, self._layers)
        seen = {name: one.snr for name, one in found.items() if one.snr is not None}
        self.weakest = min(seen.items(), key=lambda item: item[1], default=None)
        for name, one in found.items():
            self._weak[name] = self._weak.get(name, 0) + 1 if one.snr is not None and one.snr < _WEAK else 0
        self._warn(step, {name: snr for name, snr in seen.items() if self._weak[name] >= _PATIENCE})
        snr = {f"snr/{name}": one.snr for name, one in found.items()}
        return snr | {f"cosine/{name}": one.cosine for name, one in found.items()}

    def _warn(self, step: int, weak: Mapping[str, float]) -> None:
        """Tell of the weakest of the layers that have been weak for long enough, and never again."""
        if self._told or not weak:
            return
        self._told = True
        name, snr = min(weak.items(), key=lambda item: item[1])
        self.say(
            f"weak signal: the gradient of layer {name!r} is more noise than signal (signal-to-noise ratio {snr:.2f} at step"
            f" {step}, below 1 for {_PATIENCE} diagnoses): raise noise.scale or {self._losses(name)}, or have them tried by"
            " glr-dist tune PRESET"
        )

    def _losses(self, layer: str) -> str:
        """The key that says of how many losses the layer's estimate is made."""
        turned = {self.task.sites[kind.site].module for kind, _ in self.task.plan.pieces if not kind.whole}
        return "estimator.base_draws" if layer in turned else "estimator.copies"
