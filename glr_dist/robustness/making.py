"""Making a set of adversarial samples on a surrogate, for other networks to be evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import torch

from glr_dist import __version__
from glr_dist.attacks.attack import Attack
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.bench import Bench
from glr_dist.robustness.jobs import Show, Staff, work
from glr_dist.robustness.refusals import attackable
from glr_dist.robustness.selection import Selection, chunks
from glr_dist.robustness.subjects import Subject
from glr_dist.robustness.transfer import Transferred
from glr_dist.robustness.writing import Written, finish, whole_set
from glr_dist.store.storage import Storage
from glr_dist.workers.pool import Call, PoolPolicy


def attack_set(
    surrogate: Subject,
    data: DataSource,
    attack: Attack,
    out: str,
    *,
    selection: Selection = Selection(),  # noqa: B008  it is frozen
    seed: int = 0,
    workers: int = 0,
    policy: PoolPolicy = PoolPolicy(),  # noqa: B008
    say: Callable[[str], None] = lambda line: None,
    show: Show = lambda done, jobs, last: None,
) -> dict[str, Any]:
    """Make adversarial samples on a surrogate and store them.

    Args:
        surrogate: the network to make them on.
        data: the clean samples.
        attack: how.
        out: the set's new folder, or a URI.
        selection: which samples.
        seed: of everything random but the selection.
        workers: generation actors, beside one that writes; 0: all happens in this process.
        policy: how patient their pools are with them.
        say: told when something needs a look.
        show: told of the progress.

    Returns:
        The content of the set's meta.json.

    Raises:
        UserError: when something doesn't fit, or the folder holds something else.
    """
    attack.check()
    if not attack.stored:
        raise UserError(f"--attack {attack.name}: makes no set of samples; give it to `glr-dist evaluate`")
    indices = selection.of(data)
    folder = Storage.at(out)
    request = _request(surrogate, data, attack, selection, seed, len(indices))
    meta = whole_set(folder, request)
    if meta is not None:
        say(f"note: {folder} holds these samples already, all of them; nothing to do")
        return meta
    attackable(attack, [surrogate], data, selection.split, indices, say)
    bench = Bench(surrogates=[surrogate], data=data, split=selection.split, seed=seed)
    probe = Transferred(0, attack)
    calls = [
        Call(chunk.number, "write", (folder.uri, chunk.number), source=Call(chunk.number, "samples", (0, chunk)))
        for chunk in chunks(indices, probe.chunk)
    ]
    staff = Staff(workers, min(workers, 1), policy, cpus=(1, 0))
    written: dict[Any, Written] = {}
    for done, (call, answer) in enumerate(work(bench, [probe], calls, staff), 1):
        written[call.key] = answer
        show(done, len(calls), probe.words)
    meta = finish(folder, request | _result([written[call.key] for call in calls]))
    if meta["without_gradient"]:
        say(f"warning: {meta['without_gradient']} of {len(indices)} samples had no gradient, and stay as they were")
    return meta


def _request(
    surrogate: Subject, data: DataSource, attack: Attack, selection: Selection, seed: int, count: int
) -> dict[str, Any]:
    """What defines a set of samples."""
    return {
        "attack": {"name": attack.name, "epsilon": attack.epsilon, **attack.settings()},
        "norm": "L-infinity",
        "eps": attack.epsilon,
        "surrogate": surrogate.about,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "split": selection.split,
            "rows": list(data.sizes(selection.split)),
        },
        "shape": list(data.shape),
        "selection": asdict(selection),
        "seed": seed,
        "count": count,
        "versions": {
            "glr_dist": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pyarrow": metadata.version("pyarrow"),
        },
    }


def _result(written: Sequence[Written]) -> dict[str, Any]:
    """What came of it."""
    counts = ("right_before", "right_after", "fooled", "without_gradient")
    return {
        **{name: sum(getattr(part, name) for part in written) for name in counts},
        "queries": sum(part.queries for part in written) / sum(part.file["rows"] for part in written),
        "files": [part.file for part in written],
    }
