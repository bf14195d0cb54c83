"""Made-up findings: masks written as text, such as "1101", so that a test can be counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_dist.attacks.attack import ATTACKS, named_attack, own_settings
from glr_dist.robustness.findings import AttackOutcome, CorruptionOutcome, Findings, Mask, ModelCard, Specimens


def mask(text: str) -> Mask:
    """Right where there is a 1; a number after an x repeats the whole: "10x50"."""
    digits, _, times = text.partition("x")
    return np.array([digit == "1" for digit in digits * int(times or 1)])


def first(right: int, count: int = 100) -> Mask:
    """The first `right` of `count` samples are right."""
    return np.arange(count) < right


def card(name: str, right: Mask, seed: int = 0, **others: Any) -> ModelCard:
    about: dict[str, Any] = {
        "checkpoint": f"runs/{name}-{seed}",
        "sha256": f"{seed:02d}" * 32,
        "method": "glr",
        "loss": "cross-entropy",
        "activation": "heaviside",
        "architecture": "mlp 784-50-10",
        "noise": "gaussian 1",
        "votes": 0,
    }
    return ModelCard(name=name, right=right, seed=seed, **(about | others))


def outcome(
    attack: str, epsilon: float, right: Mask, knowledge: str = "", model: int = 0, **others: Any
) -> AttackOutcome:
    """An outcome; settings of attacks go into the attack, but those that an outcome has of its own."""
    fields = {name for kind in ATTACKS.values() for name in own_settings(kind)} - {"seconds", "queries"}
    config = named_attack(attack, epsilon, **{name: value for name, value in others.items() if name in fields})
    rest = {name: value for name, value in others.items() if name not in fields}
    return AttackOutcome(
        model=model,
        attack=config,
        knowledge=knowledge or config.knowledge,
        right=right,
        **({"library": "glr_dist 0.1.0"} | rest),
    )


def findings(
    models: Sequence[ModelCard], attacks: Sequence[AttackOutcome] = (), *, classes: int = 10, **others: Any
) -> Findings:
    """Findings on samples 1000, 1001, ..."""
    count = len(models[0].right)
    return Findings(
        data={
            "name": "digits",
            "split": "test",
            "fingerprint": "f00d",
            "classes": classes,
            "chosen": f"{count} by seed",
        },
        indices=np.arange(1000, 1000 + count),
        labels=np.arange(count) % classes,
        models=models,
        attacks=attacks,
        **others,
    )


def specimens(index: int, count: int, shape: tuple[int, ...], epsilon: float) -> Specimens:
    """Grey samples whose every value an attack moves up or down by epsilon."""
    rng = np.random.default_rng(0)
    clean = np.full((count, *shape), 0.5, np.float32)
    moved = clean + np.float32(epsilon) * rng.choice(np.array([-1, 1], np.float32), clean.shape)
    labels = np.arange(count)
    return Specimens(
        outcome=index, clean=clean, adversarial=moved, labels=labels, before=labels, after=(labels + 1) % 10
    )


def rich_findings() -> Findings:
    """Two networks (one of three seeds) under several attacks of three sizes, two surrogates, corruptions, samples."""
    rng = np.random.default_rng(1)
    models = [card("threshold", first(95 + seed), seed) for seed in range(3)]
    models.append(card("bp | relu_net", first(97), 0, method="bp", activation="relu", noise=""))
    surrogates = [card("relu-300", first(98), seed, method="bp", activation="relu", noise="") for seed in (7, 8)]
    attacks, own, corruptions = [], [], []
    for model in range(4):
        for size, left in ((0.1, 60), (0.2, 20), (0.5, 5)):
            shared: dict[str, Any] = {"model": model, "seconds": float(rng.random()), "queries": 40.0}
            attacks.append(outcome("random-signs", size, first(left + 15 + model), draws=1000, **shared))
            attacks.append(outcome("pgd", size, first(left + 5 + model), "transfer", surrogate=0, **shared))
            attacks.append(outcome("fgsm", size, first(left + 7 + model), "transfer", surrogate=0, **shared))
            attacks.append(outcome("fgsm", size, first(left + 9 + model), "transfer", surrogate=1, **shared))
            attacks.append(outcome("bpda-pgd", size, first(left - 5 + model), restarts=3, **shared))
            proof = outcome(
                "exact", size, first(left // 2), undecided=first(left // 2 + 4) & ~first(left // 2), **shared
            )
            attacks.append(proof)
        for corruption in ("gaussian", "contrast"):
            for severity in range(1, 6):
                right = first(95 - 5 * severity + model)
                corruptions.append(
                    CorruptionOutcome(model=model, corruption=corruption, severity=severity, right=right)
                )
    for surrogate in range(2):
        for size in (0.1, 0.2, 0.5):
            own.append(outcome("fgsm", size, first(int(30 - 50 * size)), "white-box", model=surrogate))
    return findings(
        models,
        attacks,
        surrogates=surrogates,
        surrogate_attacks=own,
        corruptions=corruptions,
        specimens=[specimens(1, 3, (1, 28, 28), 0.1), specimens(0, 2, (3, 8, 8), 0.1), specimens(2, 2, (64,), 0.1)],
        seed=3,
    )
