"""What others do: back-propagation, evolution strategies, and the likelihood-ratio gradient by outer products per copy."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from benchmark_contenders import BATCH, CLASSES, INPUTS, network
from benchmark_timing import Contender, repeated
from torch import Tensor, nn

from glr_dist.core.activations import straight_through

BACKPROP = "back-propagation, ReLU"
_LR, _DECAY = 3e-3, 0.1
_COPIES = 16  # of outer products: all at once they take 0.3 GB of memory for 50 hidden units
_POPULATION = 200


def _batches() -> Callable[[], tuple[Tensor, Tensor]]:
    """Batches of random images, rows in a fresh random order every epoch."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2000, INPUTS), generator=generator)
    labels = torch.arange(len(images)) % CLASSES
    order: list[Tensor] = []

    def next_batch() -> tuple[Tensor, Tensor]:
        if not order:
            order.extend(torch.randperm(len(images), generator=generator)[: len(images) // BATCH * BATCH].split(BATCH))
        rows = order.pop()
        return images[rows], labels[rows]

    return next_batch


def _backprop(
    name: str, hidden: int, unit: str, fused: bool, lent: Callable[[], AbstractContextManager[None]]
) -> Contender:
    """Autograd's gradient of one batch, and a plain loop around it: rows, backward, AdamW."""
    model, next_batch = network(hidden, unit), _batches()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_LR, weight_decay=_DECAY, fused=fused)
    x, labels = next_batch()

    def gradient() -> None:
        with lent():
            torch.autograd.grad(nn.functional.cross_entropy(model(x), labels), parameters)

    def step() -> None:
        rows, classes = next_batch()
        optimizer.zero_grad(set_to_none=True)
        with lent():
            nn.functional.cross_entropy(model(rows), classes).backward()
        optimizer.step()

    return Contender(name=name, passes=BATCH, gradient=gradient, loop=repeated(step))


def backprop_contenders(hidden: int) -> list[Contender]:
    """ReLU units, and Heaviside units straight through; the optimizer as PyTorch has it, and fused."""
    return [
        _backprop(BACKPROP, hidden, "relu", False, nullcontext),
        _backprop(f"{BACKPROP}, fused optimizer", hidden, "relu", True, nullcontext),
        _backprop("back-propagation, straight-through Heaviside", hidden, "heaviside", False, straight_through),
    ]


def outer_product_contenders(hidden: int) -> list[Contender]:
    """One by one, and, for a small layer, all at once."""
    one_by_one = outer_products(hidden, _COPIES, at_once=False)
    passes = 2 * BATCH * _COPIES
    found = [
        Contender(name=f"outer products, K = {_COPIES}, a loop over the copies", passes=passes, gradient=one_by_one)
    ]
    if hidden <= 64:
        at_once = outer_products(hidden, _COPIES, at_once=True)
        found.append(
            Contender(name=f"outer products, K = {_COPIES}, all copies at once", passes=passes, gradient=at_once)
        )
    return found


def outer_products(hidden: int, copies: int, *, at_once: bool) -> Callable[[], None]:
    """The straightforward way: every copy has its own outer product of input and score, ``ni,nj->nij``, then the mean.

    Layerwise, Gaussian, unconditioned, without a baseline.

    Args:
        hidden: Heaviside units.
        copies: K.
        at_once: all copies are rows of one batch, as in the original method's code; else a loop over the copies, which
            needs less memory.
    """
    model, (x, labels) = network(hidden), _batches()()
    if at_once:
        x, labels = x.repeat(copies, 1), labels.repeat(copies)
    first, second = model[1], model[3]

    def gradients() -> list[Tensor]:
        z1 = first(x)
        bits = (z1 >= 0).float()
        z2 = second(bits)
        e1, e2 = torch.randn_like(z1), torch.randn_like(z2)
        d1 = losses(second((z1 + e1 >= 0).float())).unsqueeze(1) * e1
        d2 = losses(z2 + e2).unsqueeze(1) * e2
        outer = [torch.einsum("ni,nj->nij", d, inputs).mean(0) for d, inputs in ((d1, x), (d2, bits))]
        return [outer[0], d1.mean(0), outer[1], d2.mean(0)]

    def losses(logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    @torch.no_grad()
    def run() -> None:
        rounds = [gradients() for _ in range(1 if at_once else copies)]
        for parts in zip(*rounds, strict=True):
            torch.stack(parts).mean(0)

    return run


def evotorch_contenders(hidden: int) -> list[Contender]:
    """PGPE with ReLU units, where EvoTorch is installed: a pass is one member's of one example."""
    if importlib.util.find_spec("evotorch") is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own and of what it imports
        import evotorch
        from evotorch.algorithms import PGPE
        from evotorch.neuroevolution import SupervisedNE

        logging.getLogger("evotorch").setLevel(logging.ERROR)  # it tells the rest on standard output
        images, labels = zip(*(_batches()() for _ in range(8)), strict=True)
        rows = torch.utils.data.TensorDataset(torch.cat(images), torch.cat(labels))
        problem = SupervisedNE(rows, network(hidden, "relu"), nn.CrossEntropyLoss(), minibatch_size=BATCH)
        search = PGPE(problem, popsize=_POPULATION, center_learning_rate=0.05, stdev_learning_rate=0.1, stdev_init=0.05)
    name = f"EvoTorch {evotorch.__version__}, PGPE, population {_POPULATION}, ReLU"
    return [Contender(name=name, passes=_POPULATION * BATCH, loop=repeated(search.step))]
