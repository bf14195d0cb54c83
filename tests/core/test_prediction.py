"""Accuracy by votes: written out for one linear layer, and the same however the examples are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from glr_dist.core.config import NoiseConfig
from glr_dist.core.noise import GeneratorSource
from glr_dist.core.prediction import Accuracy, Voter, voted_accuracy
from glr_dist.core.probing import find_sites

VOTES, SEED, EXAMPLES = 3, 4, 23


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, labels, reduction="none")


def measured(size: int) -> tuple[Accuracy, np.ndarray, np.ndarray]:
    """In batches of so many; with the clean outputs [B, 4] and the labels [B]."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4).requires_grad_(False)
    x, labels = torch.rand(EXAMPLES, 3), torch.arange(EXAMPLES) % 4
    voter = Voter(model=model, sites=find_sites(model, (3,), ()), noise=NoiseConfig(scale=0.7))
    found = voted_accuracy(voter, VOTES, loss, zip(x.split(size), labels.split(size), strict=True), SEED)
    return found, model(x).double().numpy(), labels.numpy()


def test_votes_are_the_mean_probability_of_passes_whose_noise_hangs_on_the_example() -> None:
    found, z, labels = measured(EXAMPLES)
    seeds = [np.random.SeedSequence(SEED, spawn_key=(2**32 - 4, example)) for example in range(EXAMPLES)]
    noise = np.stack([GeneratorSource("gaussian").values(seed, VOTES * 4).view(VOTES, 4).numpy() for seed in seeds], 1)
    powers = np.exp(z + 0.7 * noise)
    probabilities = powers / powers.sum(-1, keepdims=True)
    assert found.n == EXAMPLES
    assert found.accuracy == np.mean(probabilities.mean(0).argmax(-1) == labels)
    expected = -np.log(probabilities[:, np.arange(EXAMPLES), labels]).mean()
    assert found.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, 5, 22])
def test_batches_make_no_difference_to_votes(size: int) -> None:
    found, whole = measured(size)[0], measured(EXAMPLES)[0]
    assert (found.accuracy, found.n) == (whole.accuracy, whole.n)
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
