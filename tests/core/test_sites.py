"""Taps on the sites: they reach every output in order, cut the inputs off the graph, and leave no trace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from shared_layer import Shared, hooks
from torch import Tensor, nn

from glr_dist.core.probing import find_sites
from glr_dist.core.sites import tapped
from glr_dist.errors import UserError


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


@pytest.mark.parametrize(("times", "how"), [(3, "more"), (1, "less")])
def test_a_layer_called_more_or_less_often_than_by_the_first_pass_is_refused_by_name(times: int, how: str) -> None:
    model = Shared()
    sites = find_sites(model, (3,))
    model.times = times
    message = rf"layer 'core' {how} often than the first one, which called it 2 times; .* must not depend on the data"
    with pytest.raises(UserError, match=message), tapped(model, sites, lambda index, z: None):
        model(torch.randn(2, 3))
    assert hooks(model) == 0


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
