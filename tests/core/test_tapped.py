"""Taps on the sites: they reach every output in order, cut the inputs off the graph, and leave no trace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glr_dist.core.activations import heaviside
from glr_dist.core.sites import find_sites, tapped


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.sigmoid(self.core(heaviside(self.core(x)))))
        return out


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_taps_replace_outputs_in_order_and_come_off() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    sites = find_sites(model, (3,))
    x, seen = torch.randn(5, 3), []

    def double_first(index: int, z: Tensor) -> Tensor | None:
        seen.append(index)
        return 2 * z if index == 0 else None

    with tapped(model, sites, double_first):
        found = model(x)
        model(x)  # a further pass begins at the first site again
    assert seen == [0, 1, 0, 1]
    torch.testing.assert_close(found, model[1](2 * model[0](x)))
    assert hooks(model) == 0


def test_taps_tell_the_calls_of_a_shared_layer_apart() -> None:
    model = Shared()
    sites, seen = find_sites(model, (3,)), []
    with tapped(model, sites, lambda index, z: seen.append(index)):
        model(torch.randn(2, 3))
    assert seen == [0, 1, 2]


def test_taps_come_off_after_an_error_and_the_next_pass_counts_from_zero() -> None:
    model = Shared()
    sites = find_sites(model, (3,))

    def fail(index: int, z: Tensor) -> Tensor | None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), tapped(model, sites, fail, detach=True):
        model(torch.randn(2, 3))
    assert hooks(model) == 0
    seen: list[int] = []
    with tapped(model, sites, lambda index, z: seen.append(index)):
        model(torch.randn(2, 3))
    assert seen == [0, 1, 2]


class Keyword(nn.Module):
    """Passes tensors to its layers by keyword, in a list and in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 3), nn.Linear(3, 3), Nested()

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(input=self.first(x))
        out: Tensor = self.third([h], {"more": (h,)})
        return out


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def forward(self, inputs: list[Tensor], more: dict[str, tuple[Tensor]]) -> Tensor:
        return F.linear(inputs[0] + more["more"][0], self.weight)


def test_detached_inputs_leave_each_output_to_its_own_layer_however_inputs_are_passed() -> None:
    model = Keyword()
    sites = find_sites(model, (3,))
    outputs: dict[int, Tensor] = {}
    with tapped(model, sites, lambda index, z: outputs.update({index: z}), detach=True):
        model(torch.randn(4, 3))
    owners = {0: model.first.weight, 1: model.second.weight, 2: model.third.weight}
    for index, z in outputs.items():
        reached = torch.autograd.grad(z.sum(), list(owners.values()), allow_unused=True)
        assert [gradient is not None for gradient in reached] == [index == i for i in owners]
