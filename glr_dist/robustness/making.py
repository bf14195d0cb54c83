"""Making a set of adversarial samples on a surrogate, for other networks to be evaluated on.

What is in the files is told in `sample_set`. meta.json is written last, so a folder without it is an attack that was
interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
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
from glr_dist.robustness.probes import Transferred
from glr_dist.robustness.sample_set import FILE, FORMAT, META, AdversarialBatch, read_meta
from glr_dist.robustness.selection import Selection, chunks
from glr_dist.robustness.subjects import Subject
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
    """Make adversarial samples of ``data`` on a surrogate and store them in the new folder, or at the URI, ``out``.

    ``workers`` are generation actors, beside one that writes; 0: all happens in this process. The rest is as for
    `evaluate_robustness`. Returns the content of the set's meta.json.

    Raises:
        UserError: when something doesn't fit, or the folder holds something else.
    """
    attack.check()
    if not attack.stored:
        raise UserError(f"--attack {attack.name}: makes no set of samples; give it to `glr-dist evaluate`")
    indices = selection.of(data)
    folder = Storage.at(out)
    request = _request(surrogate, data, attack, selection, seed, len(indices))
    meta = _whole_set(folder, request)
    if meta is not None:
        say(f"note: {folder} holds these samples already, all of them; nothing to do")
        return meta
    bench = Bench(surrogates=[surrogate], data=data, split=selection.split, seed=seed)
    bench.attackable(attack, [surrogate], indices, say)
    calls = [
        Call(chunk.number, "write", (folder.uri, chunk.number), source=Call(chunk.number, "samples", (0, chunk)))
        for chunk in chunks(indices)
    ]
    staff = Staff(workers, min(workers, 1), policy, cpus=(1, 0))
    written = [answer for _, answer in work(bench, [Transferred(0, attack)], calls, staff, show)]
    meta = {"format": FORMAT, **request, **_result(written)}
    _finish(folder, meta)
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


def _result(written: Sequence[tuple[dict[str, Any], AdversarialBatch]]) -> dict[str, Any]:
    """What came of it."""
    files, batches = zip(*written, strict=True)
    labels, before, after = (
        np.concatenate([getattr(batch, column) for batch in batches]) for column in ("labels", "before", "after")
    )
    right, still = before == labels, after == labels
    return {
        "right_before": int(right.sum()),
        "right_after": int(still.sum()),
        "fooled": int((right & ~still).sum()),
        "without_gradient": sum(batch.without_gradient for batch in batches),
        "queries": sum(batch.queries * len(batch.labels) for batch in batches) / len(labels),
        "files": list(files),
    }


def _whole_set(folder: Storage, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The meta.json of the requested set if it is there already, whole; refuses a folder that holds anything else.

    What an interrupted attack left is nothing else.
    """
    if not folder.exists(META):
        others = [name for name in folder.list() if not FILE.fullmatch(name)]
        if others:
            raise UserError(f"--out {folder}: is not empty (it holds {others[0]}); choose a new folder")
        return None
    meta = read_meta(folder)
    if any(meta.get(key) != value for key, value in json.loads(json.dumps(dict(request))).items()):
        raise UserError(f"--out {folder}: holds another set of samples; choose a new folder")
    sound = all(
        folder.exists(file["name"]) and hashlib.sha256(folder.read(file["name"])).hexdigest() == file["sha256"]
        for file in meta["files"]
    )
    return meta if sound else None


def _finish(folder: Storage, meta: Mapping[str, Any]) -> None:
    """Write meta.json, which makes the files a set, and drop files that are none of its own."""
    own = {file["name"] for file in meta["files"]}
    for name in folder.list():
        if FILE.fullmatch(name) and name not in own:
            folder.delete(name)
    folder.write(META, (json.dumps(meta, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
