"""A loss of a whole batch: 1 less F1, on a table in which one row in ten is what is looked for.

In this folder:

    python rare.py rare.csv                               # write the table: is the digit an 8?
    glr-dist train rare.toml --data rare.csv --loss rare.py:one_less_f1 --method es
    glr-dist train rare.toml --data rare.csv              # the same network by cross-entropy
    glr-dist submit -- train rare.toml --data rare.csv --loss rare.py:one_less_f1 --method es
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

import glr_dist

HERE = Path(__file__)


def one_less_f1(outputs: Tensor, labels: Tensor) -> Tensor:
    """1 - F1 of class 1 over all examples of a batch, for outputs [B, 2] and labels [B]; no derivative anywhere."""
    said, true = outputs.argmax(-1) == 1, labels == 1
    return 1 - 2 * (said & true).sum() / (said.sum() + true.sum()).clamp(min=1)


one_less_f1.per = "batch"  # type: ignore[attr-defined]  # one value for all examples, and not one for each


def write_table(path: str | Path) -> None:
    """Scikit-learn's digits as a CSV file: 64 pixels, and in the column `eight` whether it is an 8."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"p{number}" for number in range(64)), "eight"])
        for pixels, digit in zip(digits.data, digits.target, strict=True):
            rows.writerow([*map(int, pixels), "yes" if digit == 8 else "no"])


def train(table: str, **options: Any) -> Any:
    """Train as `rare.toml` says on 1 - F1, by noise on the weights, with some of its keys replaced."""
    keys = {"data.name": "files", "data.root": table, "loss": f"{HERE}:one_less_f1", "method": "es", **options}
    return glr_dist.train(config=glr_dist.load_config(str(HERE.with_suffix(".toml")), keys))


if __name__ == "__main__":
    write_table(sys.argv[1])
