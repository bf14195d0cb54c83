"""Networks that ``vmap`` can't run, or that no row of a batch can stand for: they train as their plain twins do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import ES, JOINT, train_small
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside, heaviside
from glr_dist.store.checkpoint import load_checkpoint


class Net(nn.Module):
    """Linear, ``middle``, Linear, perhaps with what ``around`` adds."""

    def __init__(self, middle: Callable[[Tensor], Tensor], *, in_place: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.side, self.last = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 10)
        self.middle, self.in_place = middle, in_place

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        z = self.first(x)
        if self.in_place:
            z += self.side(x)
        else:
            z = z + self.side(x)
        return self.last(self.middle(z))  # type: ignore[no-any-return]


class Step(torch.autograd.Function):
    """A function of one's own, which knows nothing of ``vmap``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:  # type: ignore[override]
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


TWINS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "addition in place": (lambda: Net(heaviside, in_place=True), lambda: Net(heaviside)),
    "if": (lambda: Net(lambda z: z.tanh() if z.abs().max() < 1e6 else z), lambda: Net(torch.tanh)),
    "numpy": (lambda: Net(lambda z: torch.from_numpy(np.sign(z.detach().numpy()))), lambda: Net(torch.sign)),
    "function of one's own": (lambda: Net(lambda z: Step.apply(z)), lambda: Net(lambda z: (z >= 0).to(z.dtype))),
    "item": (lambda: Net(lambda z: z.relu() * (1.0 + 0.0 * z.sum().item())), lambda: Net(torch.relu)),
}


@pytest.mark.parametrize("keys", [{}, JOINT, ES], ids=["layerwise", "joint", "es"])
@pytest.mark.parametrize("name", TWINS)
def test_an_awkward_network_trains_as_its_plain_twin(name: str, keys: dict[str, Any], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        found, plain = (
            train_small(tmp_path / str(number), keys | {"steps": 2}, model=build())
            for number, build in enumerate(TWINS[name])
        )
    ours, theirs = (load_checkpoint(result.run).weights for result in (found, plain))
    for key, values in theirs.items():
        torch.testing.assert_close(ours[key], values, rtol=1e-3, atol=1e-4)


def test_flips_of_a_network_that_works_in_place(tmp_path: Path) -> None:
    keys = {"estimator.scheme": "flips", "steps": 2}

    class Behind(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = heaviside(self.first(x.flatten(1)))
            h = self.last(h)
            h += 1.0
            return h

    def behind() -> nn.Module:
        model = Behind(Heaviside())
        del model.side
        return model

    with torch.random.fork_rng():
        assert train_small(tmp_path / "run", keys, model=behind()).steps == 2
