"""What training rests on is tried: networks that keep a state, mix examples, move or never reach their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from any_network import Call
from shared_layer import hooks
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside, heaviside
from glr_dist.core.behaviour import refuse_misbehaviour, refuse_unreached, refuse_unreached_by_autograd
from glr_dist.core.parameters import trainable_parameters
from glr_dist.core.probing import find_sites
from glr_dist.errors import UserError

X = torch.rand((8, 6), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def net(*middle: nn.Module | Callable[[Tensor], Tensor]) -> nn.Sequential:
    layers = (each if isinstance(each, nn.Module) else Call(each) for each in middle)
    return nn.Sequential(nn.Linear(6, 10), *layers, nn.Linear(10, 3)).eval()


class Memory(nn.Module):
    """Looks back at the last batch of the same size, or at how many there have been."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of, self.kept, self.calls = of, {}, 0  # type: ignore[var-annotated]

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        last = self.kept.get(len(z), z) if self.of == "batch" else z
        self.kept[len(z)] = z
        return torch.tanh(last + (self.calls % 2 if self.of == "calls" else 0.0))


class RunningMean(nn.Module):
    """Batch normalization of one's own, whose statistics move in evaluation mode too."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, z: Tensor) -> Tensor:
        out = z - self.mean
        self.mean.mul_(0.9).add_(0.1 * z.mean(0))
        return out


class Positions(nn.Module):
    """A table read by the example's place in the batch."""

    def __init__(self, rows: int, scale: float) -> None:
        super().__init__()
        self.table = nn.Parameter(scale * torch.rand((rows, 10), generator=torch.Generator().manual_seed(1)))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.table[: len(z)]


class Clipped(nn.Linear):
    """Holds its weights to a norm while it looks at them."""

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.99)
        return super().forward(z)


def own_batch_normalization(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.std(0) + 1e-3)


MISBEHAVED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "noise": (lambda: net(lambda z: z + 0.1 * torch.randn_like(z)), r"layer '1' \(Call\) draws noise of its own"),
    "dropout that these inputs don't show": (
        lambda: net(lambda z: nn.functional.dropout(z * 0.0, 0.5)),
        r"layer '1' \(Call\) draws noise of its own",
    ),
    "dropout": (lambda: net(lambda z: nn.functional.dropout(z, 0.5)), r"layer '1' \(Call\) draws noise of its own"),
    "last batch": (lambda: net(Memory("batch")), r"layer '1' \(Memory\): the same input gives another output"),
    "calls": (lambda: net(Memory("calls")), r"layer '1' \(Memory\): the same input gives another output the second"),
    "running mean": (lambda: net(RunningMean()), r"buffer '1\.mean' changes in a forward pass"),
    "own batch normalization": (
        lambda: net(own_batch_normalization, Heaviside()),
        r"layer '1' \(Call\): one example's output depends on the others",
    ),
    "softmax over examples": (lambda: net(lambda z: z.softmax(0)), r"layer '1' \(Call\): one example's output"),
    "the last example": (lambda: net(lambda z: z - 0.01 * z[:1]), r"layer '1' \(Call\): one example's output"),
    "the batch's greatest": (lambda: net(lambda z: z / z.abs().max()), "one example's output depends on the others"),
    "positions": (lambda: net(Positions(2000, 1.0)), "one example's output depends on its place in the batch"),
    "fresh positions": (
        lambda: net(Positions(64, 0.0)),
        "takes 8 examples, but not 65 at once: RuntimeError: The size",
    ),
    "alone": (lambda: net(lambda z: z * (1.0 if len(z) < 9 else 2.0)), "another among .* examples than among 8"),
    "in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), *net()).eval(),
        "ReLU.* changes its input in place|in place",
    ),
    "moving weights": (
        lambda: nn.Sequential(Clipped(6, 3)),
        r"parameter '0\.weight' changes in a forward pass",
    ),
    "max_norm": (
        lambda: nn.Sequential(Call(lambda x: x.round().long()), nn.Embedding(3, 4, max_norm=0.1), nn.Flatten()),
        r"parameter '1.weight' changes in a forward pass",
    ),
}


@pytest.mark.parametrize("name", MISBEHAVED)
def test_what_is_no_function_of_each_example_alone_is_refused_by_name(name: str) -> None:
    build, message = MISBEHAVED[name]
    model = build()
    before = {key: values.clone() for key, values in model.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        refuse_misbehaviour(model, X - 0.5 if name == "in place" else X)
    assert str(caught.value).startswith("model: ") and "\n" not in str(caught.value)
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())
    assert hooks(model) == 0


@pytest.mark.parametrize(
    "middle",
    [
        [nn.Tanh()],
        [nn.LayerNorm(10), Heaviside()],
        [lambda z: torch.sign(z).clone()],
        [nn.BatchNorm1d(10)],
        [lambda z: z.masked_fill(z > 0, float("nan"))],
        [nn.Dropout(0.5)],
        [lambda z: torch.from_numpy(z.detach().numpy().copy())],
    ],
    ids=["tanh", "layer norm", "sign", "fixed batch norm", "nan", "dropout that is off", "numpy"],
)
def test_functions_of_each_example_alone_pass(middle: list[nn.Module]) -> None:
    refuse_misbehaviour(net(*middle), X)


class SignWeights(nn.Linear):
    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, torch.where(self.weight >= 0, 1.0, -1.0), self.bias)


class StraightThroughWeights(nn.Linear):
    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.weight + (self.weight.sign() - self.weight).detach(), self.bias)


def unreached(model: nn.Module) -> None:
    sites = find_sites(model, (6,))
    refuse_unreached(model, sites, X, trainable_parameters(model, sites))


def test_a_parameter_that_its_own_layer_gives_no_gradient_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"no gradient reaches parameter '2.weight' through its own layer.*--method es"):
        unreached(nn.Sequential(nn.Linear(6, 10), Heaviside(), SignWeights(10, 3)))
    with pytest.raises(UserError, match=r"parameter '0\.weight'"):
        unreached(nn.Sequential(SignWeights(6, 3, bias=False)))
    unreached(nn.Sequential(StraightThroughWeights(6, 10), Heaviside(), nn.Linear(10, 3)))


@pytest.mark.parametrize("model", [net(Heaviside()), net(nn.PReLU()), net(nn.GroupNorm(2, 10), Heaviside())])
def test_bits_that_are_all_off_keep_no_gradient_from_what_reads_them(model: nn.Sequential) -> None:
    model[0].bias.data.fill_(-100.0)
    unreached(model)


def test_what_lies_before_a_function_without_a_derivative_is_refused_for_autograd() -> None:
    def refuse(model: nn.Module) -> None:
        refuse_unreached_by_autograd(model, X, dict(model.named_parameters()))

    with pytest.raises(UserError, match=r"no gradient of the outputs reaches parameter '0.weight'.*--method glr"):
        refuse(net(torch.round))
    refuse(net(Heaviside()))  # straight-through
    refuse(net(nn.Tanh()))


def near_zero(z: Tensor) -> Tensor:
    return (z.abs() < 0.01).float()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_reader_out_of_sight_is_found_by_moving_within_the_bits() -> None:
    """It tells nothing of outputs that are far from 0, as those of a network at its start may be."""
    scripted = torch.jit.script(near_zero)  # no mode sees what it reads

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 10), nn.Linear(10, 3)
            self.first.bias.data.fill_(3.0)

        def forward(self, x: Tensor) -> Tensor:
            z = self.first(x)
            return self.last(heaviside(z) + scripted(z))  # type: ignore[no-any-return]

    assert not any(site.binary for site in find_sites(Beside(), (6,)))
