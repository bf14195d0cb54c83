"""Writing a set of adversarial samples, chunk by chunk; what is in the files is told in `sample_set`.

meta.json is written last, so a folder without it is an attack that was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from glr_dist.errors import UserError
from glr_dist.robustness.sample_set import FILE, FORMAT, INTEGERS, META, AdversarialBatch, read_meta
from glr_dist.store.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of one chunk.

    Attributes:
        file: its ``name``, ``rows`` and ``sha256``.
        fooled: samples that the surrogate got right before and gets wrong now.
        right_before: samples that it got right before.
        right_after: samples that it gets right under the attack.
        without_gradient: samples whose input gradient was zero or not finite.
        queries: forward passes, all samples added.
    """

    file: dict[str, Any]
    fooled: int
    right_before: int
    right_after: int
    without_gradient: int
    queries: float


def whole_set(folder: Storage, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The meta.json of a set that is there already, whole; None: it has to be made.

    Args:
        folder: where the set shall go.
        request: what defines it.

    Raises:
        UserError: when the folder holds anything but this set or what an interrupted attack left.
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


def write_chunk(folder: Storage, number: int, made: AdversarialBatch) -> Written:
    """Write one chunk; the same chunk always makes the same bytes."""
    flat = np.ascontiguousarray(made.x, dtype=np.float32).reshape(len(made.x), -1)
    columns = {"x_adv": pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel(), pa.float32()), flat.shape[1])}
    values = dict(zip(INTEGERS, (made.indices, made.labels, made.before, made.after), strict=True))
    columns |= {name: pa.array(column, pa.int64()) for name, column in values.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd", use_dictionary=False, write_statistics=False)
    data = sink.getvalue().to_pybytes()
    name = f"samples-{number:05d}.parquet"
    folder.write(name, data)
    right, still = made.before == made.labels, made.after == made.labels
    return Written(
        file={"name": name, "rows": len(flat), "sha256": hashlib.sha256(data).hexdigest()},
        fooled=int((right & ~still).sum()),
        right_before=int(right.sum()),
        right_after=int(still.sum()),
        without_gradient=made.without_gradient,
        queries=made.queries * len(right),
    )


def finish(folder: Storage, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Write meta.json, which makes the files a set, and drop files that are none of its own; returns its content."""
    own = {file["name"] for file in meta["files"]}
    for name in folder.list():
        if FILE.fullmatch(name) and name not in own:
            folder.delete(name)
    about = {"format": FORMAT, **meta}
    folder.write(META, (json.dumps(about, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
    return about
