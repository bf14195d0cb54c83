"""Sums of exponentials give the losses that passes one by one give, or say that they can't."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import cross_entropy
from glr_dist.core.probing import find_sites
from glr_dist.methods.layerwise import copies_kind
from glr_dist.methods.likelihood_ratio import LikelihoodRatio
from glr_dist.methods.method import Net
from glr_dist.methods.read_out import noisy_read_out, turned_read_out
from glr_dist.models.networks import MLP

ROWS, CLASSES = 6, 4
LABELS = torch.arange(ROWS) % CLASSES


def exact(logits: Tensor) -> Tensor:
    """Cross-entropy in float64, of logits [..., R, C]."""
    return -logits.double().log_softmax(-1)[..., torch.arange(ROWS), LABELS]


@pytest.mark.parametrize("signs", [1, 2])
@pytest.mark.parametrize("size", [1.0, 40.0])
def test_noise_on_the_logits_is_that_of_noisy_passes(signs: int, size: float) -> None:
    generator = torch.Generator().manual_seed(signs)
    z = size * torch.randn((ROWS, CLASSES), generator=generator)
    eps = torch.randn((5, ROWS, CLASSES), generator=generator)
    found = noisy_read_out(z, eps, 3.0, LABELS, signs)
    assert found is not None
    want = torch.cat([exact(z + sign * 3.0 * eps) for sign in (1, -1)[:signs]])
    torch.testing.assert_close(found.double(), want, atol=1e-5 * size, rtol=1e-5)


def test_a_turned_bit_moves_the_logits_by_its_column() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5.0 * torch.randn((3, ROWS, CLASSES), generator=generator)
    weight = 4.0 * torch.randn((7, CLASSES), generator=generator)
    direction = torch.randn((3, 7, ROWS), generator=generator).sign()
    turned = logits.unsqueeze(1) + direction.unsqueeze(-1) * weight.unsqueeze(1)
    want = direction * (exact(turned) - exact(logits).unsqueeze(1))  # L(1) - L(0), whichever of them is the turned one
    found = turned_read_out(logits, direction, weight, LABELS)
    torch.testing.assert_close(found.double(), want, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1e3])
def test_where_exponentials_leave_float32_the_passes_are_made(scale: float) -> None:
    torch.manual_seed(0)
    model = MLP(9, [5], CLASSES, "heaviside")
    sites, estimator = find_sites(model, (9,)), EstimatorConfig(copies=8)
    net = Net.of(model, sites, fold=True, loss=cross_entropy, noise=NoiseConfig(scale=scale), estimator=estimator)
    kind, noise = copies_kind(sites, 1, estimator), {1: torch.randn(4, ROWS, CLASSES)}
    x = torch.rand(ROWS, 9)
    with torch.no_grad():
        assert (noisy_read_out(model(x), noise[1], scale, LABELS, 2) is None) == (scale > 1)
        found = LikelihoodRatio().losses(net, kind, noise, x, LABELS, "here")
        want = torch.cat([exact(model(x) + sign * scale * noise[1]) for sign in (1, -1)])
    torch.testing.assert_close(found.double(), want, atol=1e-5 * scale, rtol=1e-5)
