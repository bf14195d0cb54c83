"""Noisy passes against a loop over copies, through networks written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.core.losses import cross_entropy
from glr_dist.core.passes import copy_losses, folds, noisy_logits, perturbed_logits, split_noise
from glr_dist.core.probing import find_sites
from glr_dist.core.taps import Hooks
from glr_dist.errors import UserError


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        out: Tensor = self.last(h + torch.tanh(self.second(h)))
        return out


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), Heaviside(), nn.Linear(4, 2))


def test_noise_is_cut_into_sites_in_order() -> None:
    sites = find_sites(chain(), (3,))
    values = torch.arange(2 * 5 * 6, dtype=torch.float32)  # 2 draws, 5 rows, 4 + 2 units
    noise = split_noise(values, 2, 5, sites, [0, 1])
    assert torch.equal(noise[0], values[:40].view(2, 5, 4))
    assert torch.equal(noise[1], values[40:].view(2, 5, 2))
    assert list(split_noise(values[:20], 2, 5, sites, [1])) == [1]


@pytest.mark.parametrize("noised", [[0], [1], [0, 1]])
@pytest.mark.parametrize("scale", [0.7, -0.7])
@pytest.mark.parametrize("fold", [False, True], ids=["vmap", "fold"])
def test_every_copy_sees_its_own_noise_at_the_noised_sites_alone(noised: list[int], scale: float, fold: bool) -> None:
    model, x = chain(), normal(5, 3)
    sites = find_sites(model, (3,))
    noise = {i: normal(6, 5, sites[i].size, seed=i + 1) for i in noised}
    with torch.no_grad():
        found = noisy_logits(Hooks(model, sites), noise, scale, x, fold=fold)
        for p in range(6):
            z = model[0](x)
            z = z + scale * noise[0][p] if 0 in noise else z
            out = model[2]((z >= 0).float())
            out = out + scale * noise[1][p] if 1 in noise else out
            torch.testing.assert_close(found[p], out)


@pytest.mark.parametrize("noised", [[0], [1], [2], [0, 1, 2]])
def test_residual_connections_carry_the_noise(noised: list[int]) -> None:
    torch.manual_seed(0)
    model, x = Residual(), normal(5, 3)
    sites = find_sites(model, (3,))
    noise = {i: normal(4, 5, sites[i].size, seed=i + 1) for i in noised}
    with torch.no_grad():
        found = noisy_logits(Hooks(model, sites), noise, 0.5, x)
        for p in range(4):
            extra = [0.5 * noise[i][p] if i in noise else 0.0 for i in range(3)]
            h = torch.tanh(model.first(x) + extra[0])
            out = model.last(h + torch.tanh(model.second(h) + extra[1])) + extra[2]
            torch.testing.assert_close(found[p], out)


def test_copies_may_be_rows_where_that_is_the_same_and_nowhere_else() -> None:
    model = chain()
    assert folds(model, find_sites(model, (3,)), (3,))
    conv = nn.Sequential(nn.Conv2d(1, 2, 2), Heaviside(), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(8, 2))
    assert folds(conv, find_sites(conv, (1, 3, 3)), (1, 3, 3))
    residual = Residual()
    assert not folds(residual, find_sites(residual, (3,)), (3,))


def test_noise_drawn_by_the_network_itself_is_no_silent_mistake() -> None:
    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.out(x), 0.5)

    model = Random()
    sites = find_sites(model, (3,))
    with pytest.raises(RuntimeError, match="randomness"):
        noisy_logits(Hooks(model, sites), {0: normal(4, 5, 2)}, 1.0, normal(5, 3))


@pytest.mark.parametrize("scale", [0.3, -0.3])
def test_each_member_has_its_own_weights_and_the_model_keeps_its_own(scale: float) -> None:
    model, x, eps = chain(), normal(5, 3), normal(6, 26)
    before = [p.clone() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        found = perturbed_logits(model, eps, scale, names, x)
        for p in range(6):
            w1, b1, w2, b2 = eps[p].split([12, 4, 8, 2])
            z = x @ (before[0] + scale * w1.view(4, 3)).t() + before[1] + scale * b1
            out = (z >= 0).float() @ (before[2] + scale * w2.view(2, 4)).t() + before[3] + scale * b2
            torch.testing.assert_close(found[p], out)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_tied_weight_is_moved_once_for_all_who_share_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2, bias=False))
    tied = nn.Parameter(normal(2, 2, seed=1))
    model[0].weight = model[2].weight = tied
    eps, x = normal(3, 4), normal(5, 2)
    with torch.no_grad():
        found = perturbed_logits(model, eps, 1.0, ["0.weight"], x)
        weight = tied + eps[1].view(2, 2)
        torch.testing.assert_close(found[1], torch.tanh(x @ weight.t()) @ weight.t())


def test_each_copy_of_an_example_is_judged_by_its_label() -> None:
    logits, labels = normal(4, 3, 2), torch.tensor([0, 1, 1])
    found = copy_losses(cross_entropy, logits, labels)
    assert found.shape == (4, 3)
    for p in range(4):
        torch.testing.assert_close(found[p], F.cross_entropy(logits[p], labels, reduction="none"))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
def test_losses_of_any_type_become_float32(dtype: torch.dtype) -> None:
    found = copy_losses(
        lambda logits, labels: (logits.argmax(-1) != labels).to(dtype), normal(4, 3, 2), torch.ones(3).long()
    )
    assert found.dtype == torch.float32
    assert set(found.flatten().tolist()) == {0.0, 1.0}


def test_a_loss_that_returns_no_tensor_is_refused() -> None:
    with pytest.raises(UserError, match="loss: returned a float; a loss must return a tensor"):
        copy_losses(lambda logits, labels: 0.5, normal(4, 3, 2), torch.ones(3).long())  # type: ignore[arg-type, return-value]


def test_a_wrong_shape_is_handed_on_as_the_user_sees_it() -> None:
    assert copy_losses(lambda logits, labels: logits.sum(), normal(4, 3, 2), torch.ones(3).long()).shape == (1,)
    assert copy_losses(lambda logits, labels: logits, normal(4, 3, 2), torch.ones(3).long()).shape == (1, 3, 2)
