"""Passes that begin at a site give what whole passes give, bit for bit, and the clean pass is never an old one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.core.passes import noisy_logits
from glr_dist.core.probing import find_sites
from glr_dist.core.taps import Chain, Hooks, taps_of


class Skip(nn.Module):
    """A residual block: no row of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x))


def in_a_row() -> nn.Module:
    """Nested, with a layer called twice, and a unit that works in place."""
    twice = nn.Linear(6, 6)
    return nn.Sequential(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True)), twice, Heaviside(), twice, nn.Tanh(), nn.Linear(6, 3)
    )


def test_a_row_of_modules_is_run_from_a_site_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    model, x = in_a_row(), torch.rand(5, 4)
    sites = find_sites(model, (4,))
    chain, hooks = taps_of(model, sites), Hooks(model, sites)
    assert isinstance(chain, Chain)
    assert [site.call for site in sites] == [0, 0, 1, 0]
    for noised in ([0], [1], [2], [3], [1, 3]):
        noise = {index: torch.randn(7, 5, *sites[index].shape) for index in noised}
        whole = noisy_logits(hooks, noise, 0.5, x, fold=True)
        assert torch.equal(noisy_logits(chain, noise, 0.5, x, fold=True, from_clean=True), whole)
        assert torch.equal(noisy_logits(chain, noise, 0.5, x, fold=True), whole)
    for ours, theirs in zip(chain.clean(x), hooks.clean(x), strict=True):
        assert torch.equal(ours, theirs)


def hooked() -> nn.Module:
    """A row of modules with a hook around it, which a pass from the middle would leave out."""
    model = in_a_row()
    model.register_forward_hook(lambda module, args, output: output * 2.0)
    return model


def replaced() -> nn.Module:
    """A row of modules whose forward was replaced in this one."""
    model = in_a_row()
    inner = nn.Sequential(*model)
    model.forward = lambda x: inner(x) * 2.0  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Linear(4, 6), Skip(), nn.Linear(6, 3)), hooked(), replaced()],
    ids=["a residual block within", "a hook around it", "a forward of its own"],
)
def test_other_networks_are_run_whole(model: nn.Module) -> None:
    sites = find_sites(model, (4,))
    taps, x = taps_of(model, sites), torch.rand(5, 4)
    assert isinstance(taps, Hooks)
    noise = {1: torch.zeros(1, 5, *sites[1].shape)}
    assert torch.equal(noisy_logits(taps, noise, 0.5, x, from_clean=True)[0], model(x))


@pytest.mark.parametrize("make", [in_a_row, hooked])
def test_the_clean_pass_is_that_of_the_parameters_and_inputs_as_they_are(make: type) -> None:
    model, x = make(), torch.rand(5, 4)
    taps = taps_of(model, find_sites(model, (4,)))
    first = taps.clean(x)
    assert taps.clean(x) is first
    with torch.no_grad():
        next(model.parameters()).mul_(2.0)
    moved = taps.clean(x)
    assert not torch.equal(moved[0], first[0])
    x.add_(1.0)
    assert not torch.equal(taps.clean(x)[0], moved[0])


def test_a_site_hangs_on_its_own_layer_alone() -> None:
    model, x = in_a_row(), torch.rand(5, 4)
    outputs = taps_of(model, find_sites(model, (4,))).clean(x)
    for _ in range(2):  # the graph stays
        last = torch.autograd.grad(outputs[-1].sum(), list(model.parameters()), retain_graph=True, allow_unused=True)
        assert [part is not None for part in last] == [False, False, False, False, True, True]
