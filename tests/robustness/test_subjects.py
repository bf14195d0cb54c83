"""How networks under test tell a class: by one clean pass, or by the vote of noisy ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_nets import digits, network, voter

from glr_dist.core.config import NoiseConfig
from glr_dist.errors import UserError
from glr_dist.robustness.selection import rows_at
from glr_dist.robustness.subjects import logits_of, predict, refuse_votes

INDICES = np.arange(0, 359, 9)


def test_a_clean_prediction_is_the_largest_output_of_the_network_in_numpy() -> None:
    subject = network("heaviside")
    x, _ = rows_at(digits(), "test", INDICES)
    w, b, v, d = (parameter.double().numpy() for parameter in subject.model.parameters())
    outputs = (x.flatten(1).double().numpy() @ w.T + b >= 0) @ v.T + d
    found = predict(subject, x, votes=0, seed=0, indices=INDICES)
    assert np.array_equal(found, outputs.argmax(1))


@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_a_samples_vote_does_not_depend_on_its_neighbours(family: str) -> None:
    subject = network("heaviside")
    subject = dataclasses.replace(subject, voter=voter(subject.model, NoiseConfig(family=family, scale=3.0)))
    x, _ = rows_at(digits(), "test", INDICES)
    whole = predict(subject, x, votes=3, seed=1, indices=INDICES)
    backwards = predict(subject, x.flip(0), votes=3, seed=1, indices=INDICES[::-1].copy())
    alone = [
        predict(subject, x[i : i + 1], votes=3, seed=1, indices=INDICES[i : i + 1])[0] for i in range(len(INDICES))
    ]
    assert np.array_equal(whole, backwards[::-1])
    assert np.array_equal(whole, alone)
    assert not np.array_equal(whole, predict(subject, x, votes=3, seed=2, indices=INDICES))


def test_an_attack_on_a_voting_network_sees_fresh_noise_at_each_call_and_probabilities() -> None:
    subject = network("heaviside")
    x, _ = rows_at(digits(), "test", INDICES[:4])
    logits = logits_of(subject, votes=8, seed=np.random.SeedSequence(0))
    first, second = logits(x), logits(x)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.exp().sum(1), torch.ones(4))
    assert logits_of(subject, votes=0, seed=np.random.SeedSequence(0)) is subject.model


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("bp", r"trained without noise \(bp\); leave it out"),
        ("straight-through", "trained without noise"),
        ("es", r"trained with noise in its weights, and votes draw it in neurons \(es\); leave it out"),
    ],
)
def test_votes_of_a_network_without_noise_in_its_neurons_are_refused(method: str, told: str) -> None:
    refuse_votes("glr", "runs/one")
    with pytest.raises(UserError, match=f"--votes: runs/one was {told}"):
        refuse_votes(method, "runs/one")
