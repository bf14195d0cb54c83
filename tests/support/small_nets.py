"""Networks for digits, trained in half a second without the engine, and reports without what tells the time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from glr_dist.core.activations import straight_through
from glr_dist.core.config import NoiseConfig
from glr_dist.core.prediction import Voter
from glr_dist.core.probing import find_sites
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.builtin import load
from glr_dist.models.networks import MLP
from glr_dist.robustness.findings import Findings
from glr_dist.robustness.report.build import build_report
from glr_dist.robustness.subjects import Subject
from glr_dist.store.checkpoint import params_sha256


@lru_cache
def digits(shards: int = 3) -> ArrayDataset:
    """1,438 training and 359 test images [1, 8, 8]."""
    splits, _ = load("digits", "")
    return ArrayDataset(splits["train"], splits["test"], shards=shards)


def trained_mlp(unit: str, hidden: int, seed: int = 0, first: Sequence[nn.Module] = ()) -> nn.Module:
    """By 100 steps of back-propagation, through a straight-through derivative where there is a threshold."""
    ((x, labels),) = digits().batches("train", 10_000)
    with torch.random.fork_rng(), straight_through():
        torch.manual_seed(seed)
        model = MLP(64, (hidden,), 10, unit, first)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(100):
            optimizer.zero_grad()
            cross_entropy(model(x), labels).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


@lru_cache
def network(unit: str = "relu", seed: int = 0, hidden: int = 12) -> Subject:
    """An mlp 64-12-10 that gets about nine of ten digits right."""
    model = trained_mlp(unit, hidden, seed)
    return Subject(
        name=f"{unit} {hidden}",
        checkpoint=f"nets/{unit}-{hidden}-{seed}",
        sha256=params_sha256(model.state_dict()),
        method="bp-noise" if unit == "heaviside" else "bp",
        loss="cross-entropy",
        activation=unit,
        architecture=f"mlp 64-{hidden}-10",
        seed=seed,
        noise="gaussian 0.5" if unit == "heaviside" else "",
        model=model,
        voter=voter(model, NoiseConfig(scale=0.5)) if unit == "heaviside" else None,
    )


def voter(model: nn.Module, noise: NoiseConfig) -> Voter:
    """A network for digits as one that predicts by votes."""
    return Voter(model=model, sites=find_sites(model, digits().shape, ()), noise=noise)


def timeless(findings: Findings) -> str:
    """report.json's content without the seconds, and the samples to look at."""

    def without_seconds(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_seconds(item) for key, item in value.items() if key != "seconds"}
        return [without_seconds(item) for item in value] if isinstance(value, list) else value

    views = [view.adversarial.tobytes().hex() for view in findings.specimens]
    return json.dumps([without_seconds(build_report(findings)), views])
