"""Noise sites: which are found, which may be conditioned, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from shared_layer import Shared, hooks
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside, heaviside
from glr_dist.core.probing import find_sites
from glr_dist.core.taps import taps_of
from glr_dist.errors import UserError


class Middle(nn.Module):
    """Linear, ``middle`` of its output z, Linear."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.middle = nn.Linear(3, 4), nn.Linear(4, 2), middle

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.middle(self.first(x)))
        return out


class Reads(nn.Module):
    """Reads its first layer's weight by a function too, so that a part of its gradient passes no site."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(heaviside(self.first(x)) @ self.first.weight @ self.first.weight.t())
        return out


class Cells(nn.Module):
    """A parametric leaf that returns several tensors."""

    def __init__(self, kind: type = tuple) -> None:
        super().__init__()
        self.weight, self.kind = nn.Parameter(torch.ones(3)), kind

    def forward(self, x: Tensor) -> Any:
        return self.kind((x * self.weight, x))


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


def test_sites_come_in_calling_order_with_names_and_shapes() -> None:
    layers = OrderedDict(
        conv=nn.Conv2d(1, 2, 3), step=Heaviside(), norm=nn.GroupNorm(1, 2), flat=nn.Flatten(), out=nn.Linear(18, 5)
    )
    sites = find_sites(nn.Sequential(layers), (1, 5, 5))
    assert [(s.module, s.call, s.shape, s.size) for s in sites] == [
        ("conv", 0, (2, 3, 3), 18),
        ("norm", 0, (2, 3, 3), 18),
        ("out", 0, (5,), 5),
    ]
    assert [s.binary for s in sites] == [True, False, False]


def test_calling_order_is_not_registration_order() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(x))
            return out

    assert [s.module for s in find_sites(Backwards(), (3,))] == ["first", "second"]


def test_a_layer_called_twice_is_two_sites() -> None:
    sites = find_sites(Shared(), (3,))
    assert [(s.module, s.call, s.binary) for s in sites] == [
        ("core", 0, True), ("core", 1, False), ("last", 0, False)
    ]  # fmt: skip


def test_the_model_may_be_one_layer() -> None:
    (site,) = find_sites(nn.Linear(3, 2), (3,))
    assert (site.module, site.shape, site.binary) == ("", (2,), False)


def test_only_named_layers_become_sites() -> None:
    sites = find_sites(Middle(heaviside), (3,), names=["last"])
    assert [s.module for s in sites] == ["last"]


@pytest.mark.parametrize(
    "middle",
    [
        heaviside,
        Heaviside(),
        lambda z: heaviside(x=z),
        lambda z: heaviside(z) * z.shape[0],
        lambda z: heaviside(z) + heaviside(z),
    ],
    ids=["function", "module", "keyword", "shape", "twice"],
)
def test_a_site_that_heaviside_alone_reads_is_binary(middle: Callable[[Tensor], Tensor]) -> None:
    assert [s.binary for s in find_sites(Middle(middle), (3,))] == [True, False]


NOT_BINARY: dict[str, Callable[[Tensor], Tensor]] = {
    "residual": lambda z: heaviside(z) + z,
    "operator": lambda z: heaviside(z) + (z >= 0).float(),
    "transpose": lambda z: heaviside(z) + z.T.T,
    "data": lambda z: heaviside(z) + z.data,
    "detach": lambda z: heaviside(z) + z.detach(),
    "view of it": lambda z: heaviside(z.view(-1, 4)),
    "index": lambda z: heaviside(z) + z[:, :1],
    "loop": lambda z: heaviside(z) + torch.stack(list(z)),
    "stack": lambda z: heaviside(z) + torch.stack([z, z]).sum(0),
    "out": lambda z: heaviside(z) + torch.mul(z, 2, out=torch.empty(3, 4)),
    "copy": lambda z: heaviside(z) + torch.empty_like(z).copy_(z),
    "in place": lambda z: heaviside(z.add_(1)),
    "keyword": lambda z: heaviside(z) + torch.add(input=z, other=1),
    "item": lambda z: heaviside(z) * z.sum().item(),
    "list": lambda z: heaviside(z) + torch.tensor(z.tolist()),
    "numpy": lambda z: heaviside(z) + torch.from_numpy(z.numpy().copy()),
    "vmap": lambda z: heaviside(z) + torch.func.vmap(lambda row: row * 1)(z),
    "operator library": lambda z: heaviside(z) + torch.ops.aten.relu(z),
    "torch.heaviside": lambda z: torch.heaviside(z, torch.ones(())),
    "torch.heaviside of another": lambda z: torch.heaviside(torch.zeros_like(z), z),
    "sign": torch.sign,
    "relu": torch.relu,
    "relu module": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "identity": nn.Identity(),
    "nobody": lambda z: torch.ones(3, 4),
}


@pytest.mark.parametrize("reader", list(NOT_BINARY))
def test_a_site_that_anything_else_reads_is_not_binary(reader: str) -> None:
    assert not any(s.binary for s in find_sites(Middle(NOT_BINARY[reader]), (3,)))


def test_logits_are_not_binary_even_if_a_step_reads_them_too() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = self.out(x)
            self.bits = heaviside(z)
            return z

    assert [s.binary for s in find_sites(Head(), (3,))] == [False]


def test_frozen_layers_are_no_sites() -> None:
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), Heaviside()).requires_grad_(False).eval()
    sites = find_sites(nn.Sequential(backbone, nn.Linear(4, 4), Heaviside(), nn.Linear(4, 2)), (3,))
    assert [site.module for site in sites] == ["1", "3"]


def test_a_parameter_without_a_layer_of_its_own_is_refused() -> None:
    model = Middle(heaviside)
    model.gain = nn.Parameter(torch.ones(4))
    with pytest.raises(UserError, match="parameter 'gain' belongs to a module with children"):
        find_sites(model, (3,))
    assert len(find_sites(model, (3,), names=["first", "last"])) == 2  # the user's choice leaves it as it is
    model.gain.requires_grad_(False)
    assert len(find_sites(model, (3,))) == 2


def test_a_parametrized_layer_is_refused() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    with pytest.raises(UserError, match="belongs to a module with children"):
        find_sites(model, (3,))


def test_a_parameter_read_outside_its_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"parameter 'first\.weight' is also read outside its layer, by"):
        find_sites(Reads(), (3,))
    assert len(find_sites(Reads(), (3,), names=["last"])) == 1


def test_a_tied_parameter_whose_other_layer_is_left_out_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Heaviside(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert len(find_sites(model, (3,))) == 2
    with pytest.raises(UserError, match=r"parameter '0\.weight' is also read outside its layer"):
        find_sites(model, (3,), names=["2"])


def test_wrong_names_get_the_nearest() -> None:
    with pytest.raises(UserError, match=r"estimator\.sites = 'frist': no parametric layer.*did you mean 'first'\?"):
        find_sites(Middle(heaviside), (3,), names=["frist"])
    with pytest.raises(UserError, match=r"estimator\.sites = 'middle': no parametric layer"):
        find_sites(Middle(Heaviside()), (3,), names=["middle"])


def test_a_layer_that_is_never_called_is_refused_by_name() -> None:
    model = Middle(heaviside)
    model.spare = nn.Linear(2, 2)
    with pytest.raises(UserError, match="never calls layer 'spare'"):
        find_sites(model, (3,))


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(UserError, match="has no parametric layer"):
        find_sites(nn.Sequential(nn.Flatten()), (3,))


def test_outputs_that_are_no_rows_of_examples_are_refused() -> None:
    with pytest.raises(UserError, match="layer '0' returns list for 3 examples"):
        find_sites(nn.Sequential(Cells(list), First()), (3,))
    with pytest.raises(UserError, match=r"model: returns \(3, 2, 4\) for 3 examples"):
        find_sites(nn.Linear(3, 4), (2, 3))
    with pytest.raises(UserError, match=r"model: returns \(3,\) for 3 examples"):
        find_sites(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), (3,))


def test_the_first_of_several_outputs_is_the_sites_however_passes_are_run() -> None:
    model = nn.Sequential(Cells(), First(), nn.Linear(3, 2))
    sites = find_sites(model, (3,))
    assert [(site.module, site.shape, site.several) for site in sites] == [("0", (3,), True), ("2", (2,), False)]
    x = torch.rand(4, 3)
    put = taps_of(model, sites).run(x, lambda index, z: z + 1 if index == 0 else None)
    assert torch.allclose(put, model[2](x + 1))


def test_probing_leaves_no_hooks_and_no_changed_parameters() -> None:
    model = Middle(lambda z: heaviside(z.add_(1)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_sites(model, (3,))
    assert hooks(model) == 0
    with pytest.raises(RuntimeError):
        find_sites(model, (5,))  # a shape that the model cannot take
    assert hooks(model) == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_step_is_seen_through_sequential_and_nested_modules() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), Heaviside()), nn.Sequential(nn.Linear(4, 2)))
    assert [(s.module, s.binary) for s in find_sites(model, (3,))] == [("0.0", True), ("1.0", False)]
