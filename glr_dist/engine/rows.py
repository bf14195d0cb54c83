"""The rows of a block as a run is trained on them: some made adversarial, the others perhaps with noise on the inputs.

A block's rows are a pure function of (task, block, the surrogate's parameters), so that evaluators, reconstructors,
a replay and an audit all find the same, whoever makes them and whatever died on the way (Goodfellow et al., 2015: x +
epsilon * sign(d loss / d x)). The surrogate is a fixed network, or the network in training itself with the derivative of
a hard sigmoid in the place of the Heaviside units'.

The attacks are those of `glr_dist.attacks.ascent`; beside them the engine knows nothing of that room but how a
surrogate is built again. They are always made on the CPU, also for workers with GPUs: a sign that hangs on the last bit of
a gradient must not depend on the device.

Shapes: R rows of a block, D all parameters.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from glr_dist.attacks.ascent import fgsm, pgd
from glr_dist.attacks.ball import check_images
from glr_dist.attacks.input_gradient import NoGradientError
from glr_dist.core.activations import straight_through
from glr_dist.core.parameters import load_parameters
from glr_dist.data.batches import Block
from glr_dist.engine.task import Task
from glr_dist.errors import UserError
from glr_dist.seeds import Purpose, seed_of

Rows = tuple[Tensor, Tensor]  # inputs [R, ...], labels [R]
Made = tuple[np.ndarray, np.ndarray] | None  # rows as they travel: float32 [R, ...] and int64 [R]

_JITTER, _START, _SHIFT = 0, 1, 2
_PROBE_ROWS = 32


class RowSupply:
    """Makes blocks' rows."""

    def __init__(self, task: Task) -> None:
        self._task = task
        network = task.model if task.surrogate is None else task.surrogate.model
        # a copy of its own, of whose parameters nobody wants a gradient
        self._network = copy.deepcopy(network).requires_grad_(False) if task.augment.attack else network
        self.moves = bool(task.augment.attack) and task.surrogate is None  # the parameters make a difference

    def of(self, theta: np.ndarray, block: Block, made: Made = None) -> Rows:
        """The rows of a block, fresh tensors on the CPU, made at the parameters float32 [D] unless the call brought them.

        Raises:
            UserError: for inputs outside [0, 1].
        """
        if not self._task.augment.active:
            return self._task.rows(block)
        if made is not None:
            inputs, classes = made
            return torch.tensor(inputs), torch.tensor(classes)  # fresh memory: a product's bits depend on alignment
        if self.moves:
            load_parameters(list(self._network.parameters()), theta)
        return augmented_rows(self._task, block, self._network)

    def made(self, theta: np.ndarray, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a block as they travel: float32 [R, ...] and int64 [R]."""
        x, labels = self.of(theta, block)
        return x.numpy(), labels.numpy()


def augmented_rows(task: Task, block: Block, network: nn.Module) -> Rows:
    """The rows that a block is trained on: first the adversarial ones, made on ``network``, then the others.

    Raises:
        UserError: for inputs outside [0, 1].
    """
    x, labels = task.rows(block)
    augment = task.augment
    if augment.shift:
        x = _shifted(x, augment.shift, _stream(task, block, _SHIFT))
    count = augment.adversarial(len(x))
    if count:
        x[:count] = _attacked(task, block, network, x[:count].clone(), labels[:count])
    if augment.jitter and count < len(x):
        check_images(x[count:])
        x[count:] = _jittered(x[count:], augment.jitter, _stream(task, block, _JITTER))
    return x, labels


def refuse_unshiftable(task: Task) -> None:
    """UserError for examples that are no images, where images are to be moved."""
    if task.augment.shift and len(task.data.shape) != 3:
        raise UserError(
            f"augment.shift = {task.augment.shift}: moves images [C, H, W], the data has shape {list(task.data.shape)};"
            " leave it out"
        )


def refuse_without_input_gradient(task: Task) -> None:
    """UserError for a surrogate, or a network that is its own, without a gradient: its rows would stay as they are."""
    rows, augment = task.plan.schedule.rows, task.augment
    if augment.share and not augment.adversarial(rows):
        raise UserError(
            f"augment.share = {augment.share}: of blocks of {rows} rows that is none; raise it, or units.rows"
        )
    x = torch.rand((_PROBE_ROWS, *task.data.shape), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(_PROBE_ROWS) % len(task.data.classes)
    try:
        with _derivative(task):
            fgsm(task.model if task.surrogate is None else task.surrogate.model, x, labels, 0.1)
    except NoGradientError as error:
        if task.surrogate is None:
            raise UserError(
                "augment.attack: the network has no gradient, not even with a derivative for its Heaviside units; give a"
                " --surrogate"
            ) from error
        raise UserError(
            f"--surrogate {task.surrogate.place}: its network has no gradient; use a --method bp run, or leave"
            " --surrogate out for the straight-through derivative of the network itself"
        ) from error


def _derivative(task: Task) -> AbstractContextManager[None]:
    """A fixed surrogate has derivatives of its own, the network in training needs one for its Heaviside units."""
    return straight_through() if task.surrogate is None else nullcontext()


def _attacked(task: Task, block: Block, network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    augment = task.augment
    try:
        with _derivative(task):
            if augment.attack == "fgsm":
                return fgsm(network, x, labels, augment.epsilon)
            size = augment.step_size or 2.5 * augment.epsilon / augment.steps
            return pgd(
                network,
                x,
                labels,
                augment.epsilon,
                steps=augment.steps,
                step_size=size,
                restarts=1,
                rng=np.random.Generator(_stream(task, block, _START)),
                part=augment.part,
            )
    except NoGradientError:  # it has one, as was seen at the start, but is saturated at every one of these rows now
        return x


def _jittered(x: Tensor, jitter: float, stream: np.random.PCG64) -> Tensor:
    """Raw bits, because numpy promises these for good: 24 of each 32 make a uniform float32."""
    halves = stream.random_raw(-(-x.numel() // 2)).astype("<u8", copy=False).view("<u4")[: x.numel()]
    noise = torch.from_numpy((halves >> 8).astype(np.float32)).view_as(x)
    return noise.mul_(2.0**-23 * jitter).sub_(jitter).add_(x).clamp_(0.0, 1.0)


def _shifted(x: Tensor, most: int, stream: np.random.PCG64) -> Tensor:
    """Images [R, C, H, W], each moved by up to so many pixels along both axes; what comes in is 0."""
    height, width = x.shape[-2:]
    moves = torch.from_numpy((stream.random_raw(2 * len(x)) % np.uint64(2 * most + 1)).astype(np.int64)).view(2, -1, 1)
    down, right = moves[0] + torch.arange(height), moves[1] + torch.arange(width)  # [R, H], [R, W] in the padded image
    row = torch.arange(len(x))[:, None, None]
    padded = pad(x, (most, most, most, most)).movedim(1, -1)
    return padded[row, down[:, :, None], right[:, None, :]].movedim(-1, 1).contiguous()


def _stream(task: Task, block: Block, purpose: int) -> np.random.PCG64:
    """A block's own randomness, from the run's seed."""
    key = (block.epoch, block.shard, block.index, purpose)
    return np.random.PCG64(seed_of(task.plan.seed, Purpose.ROWS, *key))
