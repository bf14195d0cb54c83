"""result.json: what a run has come to, written when it ends; the next part of a resumed run writes it anew.

Accuracies are shares in [0, 1] of networks without noise, with Wilson's 95% interval over the examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from glr_dist.core.intervals import wilson
from glr_dist.core.prediction import Accuracy
from glr_dist.errors import UserError
from glr_dist.store.local import SMALL_BYTES
from glr_dist.store.storage import Storage

RESULT = "result.json"


def measured(found: Accuracy | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """An accuracy as JSON values: with its interval, and for each class by its name; None stays."""
    if found is None:
        return None
    if not found.of:  # no classes were told
        return {"accuracy": found.accuracy, "n": found.n, "loss": found.loss}
    by_class = zip(classes, found.right, found.of, strict=False)
    said: dict[str, Any] = {**_share(sum(found.right), sum(found.of)), "loss": found.loss}
    return said | {"classes": {name: _share(right, n) for name, right, n in by_class}}


def _share(right: int, n: int) -> dict[str, Any]:
    if not n:
        return {"accuracy": None, "low": None, "high": None, "right": right, "n": n}
    low, high = wilson(right, n)
    return {"accuracy": right / n, "low": low, "high": high, "right": right, "n": n}


def write_result(run: Storage, result: Mapping[str, Any]) -> None:
    """Write it, whole or not at all."""
    run.write(RESULT, (json.dumps(result, indent=1) + "\n").encode())


def drop_result(run: Storage) -> None:
    """Delete it: the run goes on."""
    if run.exists(RESULT):
        run.delete(RESULT)


def read_result(run: Storage) -> dict[str, Any] | None:
    """What the run came to; None where it hasn't ended yet, or was made by a version that wrote none.

    Raises:
        UserError: when the file is damaged.
    """
    if not run.exists(RESULT):
        return None
    try:
        said = json.loads(run.read(RESULT, SMALL_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{run.folder(RESULT)} is damaged: {error}; delete it, the run needs it not") from error
    if not isinstance(said, dict):
        raise UserError(f"{run.folder(RESULT)} is damaged: it holds no table; delete it, the run needs it not")
    return said
