"""Runs whose figures are written by hand: what is read from them can be worked out on paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from small_runs import small_config

from glr_dist.config import config_toml


def told_run(
    place: Path, lines: Sequence[Mapping[str, Any]], keys: Mapping[str, Any] | None = None, result: Any = None
) -> Path:
    """A run's folder with these lines of metrics, and a result.json if one is given."""
    place.mkdir(parents=True)
    (place / "config.toml").write_text(config_toml(small_config(keys)))
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        (place / "result.json").write_text(json.dumps(result))
    return place


def share(right: int, n: int, low: float, high: float) -> dict[str, Any]:
    """An accuracy as result.json has it."""
    return {"accuracy": right / n, "low": low, "high": high, "right": right, "n": n}


def learning(*accuracies: float) -> list[dict[str, Any]]:
    """Metrics of a run that is validated at every second step from 2 on; 1,000 passes and half a second a step."""
    lines: list[dict[str, Any]] = []
    for step in range(1, 2 * len(accuracies) + 1):
        lines.append({"step": step, "loss": 1 / step, "seconds": step / 2, "noisy_forwards": 1000 * step})
        if step % 2 == 0:
            lines[-1]["validation_accuracy"] = accuracies[step // 2 - 1]
    return lines
