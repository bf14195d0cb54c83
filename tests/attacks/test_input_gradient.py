"""Input gradients against NumPy in float64, left without a trace, and refused where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from by_hand import numpy_gradient
from torch import Tensor, nn

from glr_dist.attacks.input_gradient import input_gradient, without_gradient
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP


def images(count: int = 6, pixels: int = 12) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((count, pixels), dtype=np.float32))
    return x, torch.from_numpy(rng.integers(0, 3, count))


def test_equals_numpy_in_float64() -> None:
    torch.manual_seed(0)
    net = MLP(12, [7], 3, "tanh")
    x, labels = images()
    np.testing.assert_allclose(input_gradient(net, x, labels).numpy(), numpy_gradient(net, x, labels), atol=1e-6)


def test_a_samples_gradient_is_that_of_the_sample_alone() -> None:
    torch.manual_seed(0)
    net = MLP(12, [7], 3, "sigmoid")
    x, labels = images()
    alone = torch.cat([input_gradient(net, x[i : i + 1], labels[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(input_gradient(net, x, labels), alone)


def test_leaves_no_trace_in_the_network_or_its_caller() -> None:
    net = nn.Sequential(nn.Linear(12, 8), nn.Sequential(nn.Dropout(0.5), nn.ReLU()), nn.Linear(8, 3))
    net.train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[2].weight.grad = torch.ones_like(net[2].weight)
    x, labels = images()
    before = [p.detach().clone() for p in net.parameters()]
    net[1][0].train()
    with torch.no_grad():
        first = input_gradient(net, x, labels)
        assert not torch.is_grad_enabled()
    assert torch.equal(first, input_gradient(net, x, labels))  # dropout was off
    assert [m.training for m in net.modules()] == [True, True, False, True, False, True]
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    assert torch.equal(net[2].weight.grad, torch.ones_like(net[2].weight))
    assert net[0].bias.grad is None
    assert not x.requires_grad


def test_evaluation_mode_ends_by_an_error_too() -> None:
    net = nn.Dropout()

    def fail(x: Tensor) -> Tensor:
        assert not net.training
        raise RuntimeError("stop")

    net.forward = fail
    with pytest.raises(RuntimeError, match="stop"):
        input_gradient(net, *images())
    assert net.training


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": torch.sign,
    "round": torch.round,
    "comparison": lambda z: (z > 0).float(),
    "detached": lambda z: z.detach(),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_network_without_a_gradient_is_refused(step: str) -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(12, 8), nn.Linear(8, 3)
    with pytest.raises(UserError, match=r"no gradient .*--surrogate CHECKPOINT.*bpda-pgd"):
        input_gradient(lambda x: last(STEPS[step](first(x))), *images())


def test_a_saturated_loss_is_counted_and_not_refused() -> None:
    x, _ = images()
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    weight = torch.zeros(3, 12)
    weight[0] = 1.0
    gradient = input_gradient(lambda z: 1000.0 * z @ weight.T, x, labels)  # softmax is 1.0 in float32
    assert without_gradient(gradient).tolist() == [True] * 6
    mixed = torch.tensor([0, 1, 0, 0, 2, 0])
    found = input_gradient(lambda z: 1000.0 * z @ weight.T, x, mixed)
    assert without_gradient(found).tolist() == [True, False, True, True, False, True]


def test_zero_and_non_finite_rows_have_no_gradient() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 1e-30], [float("nan"), 1.0], [float("inf"), 1.0], [-1.0, 0.0]])
    assert without_gradient(rows).tolist() == [True, False, True, True, False]
    assert without_gradient(rows.view(5, 1, 2)).tolist() == [True, False, True, True, False]
