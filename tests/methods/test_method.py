"""Methods as a table: a sixth one is trained with, replayed and audited by registering it and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import call, last_json, refused
from torch import Tensor

from glr_dist.core.config import METHODS as ABOUT_METHODS
from glr_dist.core.config import EstimatorConfig
from glr_dist.core.parameters import shaped
from glr_dist.core.passes import SiteNoise, copy_losses, perturbed_logits
from glr_dist.core.sites import Site
from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.methods.method import METHODS, Gradient, Method, Net, Observed, named_method, register

PACKAGE = Path(__file__).resolve().parents[2] / "glr_dist"
COPIES, ROWS, BATCH, STEPS = 32, 16, 32, 60


@dataclass(frozen=True, kw_only=True)
class AndClean(UnitKind):
    """Brings the loss without noise too: [P + 1, R]."""

    def losses(self, draws: int, rows: int) -> tuple[int, int]:
        return draws + 1, rows


class Forward(Method):
    """Forward differences along random directions: mean of (L(theta + s eps) - L(theta)) eps / s."""

    name = "forward"
    observes = True
    noises = "weights"

    def kinds(self, sites: Sequence[Site], parameters: int, estimator: EstimatorConfig) -> list[UnitKind]:
        kind = AndClean(
            site=ALL_SITES, draws=estimator.copies, signs=1, values=parameters, shared=True, widest=sites[0].size
        )
        return [kind]

    def losses(self, net: Net, kind: UnitKind, noise: SiteNoise, x: Tensor, labels: Tensor, where: str) -> Tensor:
        eps = torch.cat([torch.zeros_like(noise[ALL_SITES][:1]), noise[ALL_SITES]])
        return copy_losses(net.loss, perturbed_logits(net.model, eps, net.noise.scale, list(net.trained), x), labels)

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        total = torch.zeros(sum(p.numel() for p in net.parameters))
        for unit in units:
            clean, *moved = unit.losses[0].sum(-1)
            total += (torch.stack(moved) - clean) @ unit.noise()[ALL_SITES] / (net.noise.scale * net.estimator.copies)
        return Gradient(shaped(total, net.parameters))


@pytest.fixture
def sixth() -> Iterator[None]:
    register(Forward())
    yield
    del METHODS[Forward.name], ABOUT_METHODS[Forward.name]


SMALL = {
    "batch": BATCH,
    "units.rows": ROWS,
    "units.copies": COPIES // 4,
    "model.activation": "tanh",
    "noise.scale": 0.05,
    "optimizer.lr": 0.03,
}


def train(folder: Path, *arguments: str) -> Any:
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    how = ("--method", "forward", "--workers", "0", "--run-dir", str(folder), "--json")
    return call("train", "digits-threshold", *how, *sets, *arguments)


def test_a_sixth_method_is_reached_from_the_command_line(sixth: None, tmp_path: Path) -> None:
    assert len(METHODS) == 6
    run = str(tmp_path / "run")
    report = last_json(train(tmp_path / "run", "--steps", str(STEPS), "--set", "validate_every=0"))
    assert report["validation_accuracy"] > 0.3  # of 10 classes
    assert report["noisy_forwards"] == STEPS * BATCH * (COPIES + 4)
    assert report["journal"]
    assert last_json(call("replay", run, "--json"))["equal"]
    audit = last_json(call("verify", run, "--share", "0.2", "--json"))
    assert (audit["units"], audit["differences"]) == (STEPS * 2 * 4, [])


def test_a_method_that_nobody_registered_is_refused(tmp_path: Path) -> None:
    refused(train(tmp_path / "run"), "method = 'forward': unknown; choose from bp, bp-noise, es, glr, straight-through")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "observes", "noises"),
    [
        ("glr", True, "neurons"),
        ("es", True, "weights"),
        ("bp", False, "nothing"),
        ("bp-noise", False, "neurons"),
        ("straight-through", False, "nothing"),
    ],
)
def test_what_others_ask_of_a_method(name: str, observes: bool, noises: str) -> None:
    method = named_method(name)
    assert (method.name, method.observes, method.noises) == (name, observes, noises)


def test_nobody_else_compares_their_names() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "methods" and path not in (
            PACKAGE / "config.py",
            PACKAGE / "core" / "config.py",
        ):  # a default, and the table
            strings = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
            found += [f"{path.name}: {value}" for value in strings if isinstance(value, str) and value in METHODS]
    assert found == []
