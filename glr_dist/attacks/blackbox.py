"""Black-box attacks of a kept library, adversarial-robustness-toolbox (the extra ``glr-dist[attacks]``), within our ball.

    hopskipjump  asks for classes alone and walks along the boundary (Chen, Jordan and Wainwright, 2020)
    square       asks for the logits and tries random squares of +-epsilon (Andriushchenko et al., 2020)

What a network does not tell, its gradient, cannot mislead them: they are what finds out a defence that only hides it.
Three things of the library are made good here: HopSkipJump starts from the system's own randomness, and only from
uniform noise (we give it a start); it minimises the distance, so the nearest adversary that it met counts and is looked
for in the ball; Square never reaches the last row and column of pixels (it gets one more of each, which are dropped).

Shapes: B samples, D = their pixels, C classes, M rows of one question.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glr_dist.attacks.attack import Attack, Attacked, attacking, register
from glr_dist.attacks.ball import Logits, fooled, own_seed, own_stream, project
from glr_dist.errors import UserError

_STARTS_SHARE = 4  # HopSkipJump may spend one in so many queries on random images to start from
_STARTS_AT_ONCE = 10
_SQUARE_SHARE = 0.8  # of the pixels in the first squares: the paper's value for MNIST


@dataclass(frozen=True, kw_only=True)
class _BlackBox(Attack):
    """An attack of the library; samples that are wrong already stay."""

    makers = ("adversarial-robustness-toolbox",)

    queries: int = 5000  # most forward passes per sample

    @property
    def words(self) -> str:
        """Its settings for people to read."""
        return f"at most {self.queries} queries"

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """Attack the samples that the network gets right."""
        _library()
        with attacking(self, logits, x, labels) as asked:
            made = x.clone()
            rows = torch.nonzero(~fooled(asked, x, labels)).flatten()
            if self.epsilon > 0 and len(rows):
                made[rows] = self._found(asked, x[rows], labels[rows], seed)
        return Attacked(x=made, queries=asked.rows / len(x))

    @abstractmethod
    def _found(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Tensor:
        """Adversaries for samples that the network gets right."""


@register
@dataclass(frozen=True, kw_only=True)
class HopSkipJump(_BlackBox):
    """HopSkipJump in the L-infinity norm, until an adversary lies in the ball or the queries are spent.

    A sample becomes the first adversary met in the ball, else the nearest one, clamped to the ball. Its randomness is a
    child of the seed, found by the sample's bytes.
    """

    name = "hopskipjump"
    knowledge = "labels"

    def _found(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Tensor:
        pairs = zip(x, labels.tolist(), strict=True)
        return torch.stack([_nearest_adversary(logits, *pair, self.epsilon, self.queries - 1, seed) for pair in pairs])


@register
@dataclass(frozen=True, kw_only=True)
class Square(_BlackBox):
    """The Square attack; inputs that are no images [B, C, H, W] are laid out as one, row by row.

    All samples try the same squares, so a sample's result depends on those beside it. It takes 3 queries at least.
    """

    name = "square"
    knowledge = "scores"

    def _found(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Tensor:
        evasion, classification = _library()
        canvas = _Canvas(tuple(x.shape[1:]))
        answers = _Answers(logits, canvas, like=x, remembered=4 * len(x))
        side = canvas.shape[-1]
        with torch.no_grad():
            classes = logits(x[:1]).shape[-1]
        network = classification.BlackBoxClassifierNeuralNetwork(
            answers, canvas.shape, classes, channels_first=True, clip_values=(0.0, 1.0)
        )
        attack = evasion.SquareAttack(
            network,
            eps=float(self.epsilon),
            max_iter=max(1, self.queries - 3),  # a pass a step, after the clean sample (here and there) and the stripes
            p_init=min(_SQUARE_SHARE, ((side - 1) / side) ** 2),  # a square must leave room to be moved
            verbose=False,
        )
        with _numpy_seeded(seed):
            found = attack.generate(canvas.drawn(x), labels.cpu().numpy())
        return project(canvas.read(found).to(x), x, self.epsilon)


class _Canvas:
    """Samples of any shape as square images [channels, side, side] with a spare last row and column."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape))
        square = int(np.ceil(np.sqrt(size)))
        channels, height, width = shape if len(shape) == 3 else (1, square, square)
        side = max(height, width) + 1
        grid = np.arange(channels * side * side).reshape(channels, side, side)
        self._places = grid[:, :height, :width].reshape(-1)[:size]  # of the pixels, in their order
        self._pixels = shape
        self.shape = (channels, side, side)

    def drawn(self, x: Tensor) -> NDArray[np.float32]:
        """[M, *pixels] -> [M, channels, side, side], zeros where there are no pixels."""
        flat = np.zeros((len(x), int(np.prod(self.shape))), np.float32)
        flat[:, self._places] = x.flatten(1).cpu().numpy()
        return flat.reshape(len(x), *self.shape)

    def read(self, images: NDArray[Any]) -> Tensor:
        """The way back, to float32: a fresh tensor."""
        flat = images.reshape(len(images), -1)[:, self._places].astype(np.float32)
        return torch.from_numpy(flat).view(len(images), *self._pixels)


class _Answers:
    """A network as the library asks for it: images [M, ...] -> logits [M, C].

    The library asks for the same points again and again. Those it asked for last are answered from memory, and the
    forward passes are for what is new.
    """

    def __init__(self, logits: Logits, canvas: _Canvas, *, like: Tensor, remembered: int) -> None:
        self._logits, self._canvas, self._like, self._most = logits, canvas, like, remembered
        self._known: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        points = self._canvas.read(images)
        keys = [point.tobytes() for point in points.numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            with torch.no_grad():
                outputs = self._logits(points[list(new.values())].to(self._like.device)).float().cpu().numpy()
            self._known.update(zip(new, outputs, strict=True))
        answers = np.stack([self._known[key] for key in keys])
        for key in keys:
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return answers


class _Enough(Exception):
    """Ends the library's search: there is an adversary in the ball, or the queries are spent."""


class _Boundary:
    """Classes around one sample as one-hot rows, and the nearest adversary among all that was asked."""

    def __init__(self, logits: Logits, clean: Tensor, label: int, epsilon: float, queries: int) -> None:
        self._logits, self._clean, self._label, self._epsilon = logits, clean, label, epsilon
        self._left = queries
        self.classes = 0
        self.nearest: Tensor | None = None
        self._distance = np.inf

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        points = torch.from_numpy(images.astype(np.float32)).to(self._clean.device)
        self._left -= len(points)
        if self._left < 0:
            raise _Enough
        with torch.no_grad():
            outputs = self._logits(points)
        found = outputs.argmax(-1)
        self.classes = outputs.shape[-1]
        self._look(points[found != self._label])
        one_hot: NDArray[np.float32] = np.eye(self.classes, dtype=np.float32)[found.cpu().numpy()]
        return one_hot

    def _look(self, adversaries: Tensor) -> None:
        if not len(adversaries):
            return
        distances = (adversaries - self._clean).abs().flatten(1).amax(1)
        best = int(distances.argmin())
        if float(distances[best]) < self._distance:
            self._distance, self.nearest = float(distances[best]), adversaries[best].clone()
        if self._distance <= self._epsilon:
            raise _Enough


def _nearest_adversary(
    logits: Logits, clean: Tensor, label: int, epsilon: float, queries: int, seed: np.random.SeedSequence
) -> Tensor:
    boundary = _Boundary(logits, clean, label, epsilon, queries)
    try:
        start = _start(boundary, own_stream(seed, clean), tuple(clean.shape), queries // _STARTS_SHARE)
        if start is not None:
            _walk(boundary, start, clean, queries, own_seed(seed, clean))
    except _Enough:
        pass
    return clean if boundary.nearest is None else project(boundary.nearest, clean, epsilon)


def _start(boundary: _Boundary, stream: np.random.Generator, shape: tuple[int, ...], most: int) -> Tensor | None:
    """A random image of another class: grey noise or, from black to white, dots of any density."""
    for _ in range(0, most, _STARTS_AT_ONCE):
        values = stream.random((_STARTS_AT_ONCE, *shape), dtype=np.float32)
        densities = stream.random((_STARTS_AT_ONCE, *[1] * len(shape)), dtype=np.float32)
        values[::2] = values[::2] < densities[::2]
        boundary(values)
        if boundary.nearest is not None:
            return boundary.nearest
    return None


def _walk(boundary: _Boundary, start: Tensor, clean: Tensor, queries: int, seed: np.random.SeedSequence) -> None:
    """The library's search from ``start``; what it meets stays in ``boundary``."""
    evasion, classification = _library()
    network = classification.BlackBoxClassifier(boundary, tuple(clean.shape), boundary.classes, clip_values=(0.0, 1.0))
    attack = evasion.HopSkipJump(network, batch_size=queries, norm=np.inf, max_iter=queries, verbose=False)
    with _numpy_seeded(seed):
        attack.generate(clean[None].cpu().numpy(), x_adv_init=start[None].cpu().numpy())


@contextmanager
def _numpy_seeded(seed: np.random.SeedSequence) -> Iterator[None]:
    """Within: numpy's global random state, which the library draws from, is the seed's; afterwards it is as it was."""
    state = np.random.get_state()  # noqa: NPY002 (the library's choice)
    np.random.seed(seed.generate_state(8))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _library() -> tuple[Any, Any]:
    """Its attacks and its ways to wrap a network."""
    try:
        from art.attacks import evasion
        from art.estimators import classification
    except ImportError as error:
        raise UserError(
            f"--attack hopskipjump, square: need adversarial-robustness-toolbox ({error}); install glr-dist[attacks]"
        ) from error
    return evasion, classification
