"""Adversarial samples on disk: ``DIR/meta.json`` and ``DIR/samples-00000.parquet``, one file a chunk.

Columns: x_adv (fixed-size list of float32, the sample's values in C order), index (int64, the position in the split's stored
order), label, before and after (int64, the surrogate's prediction before and after). meta.json holds each file's SHA-256.

B samples of a chunk; shape [...] of one sample.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from glr_dist.attacks.attack import Attack, named_attack
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.findings import ModelCard
from glr_dist.robustness.selection import Indices, rows_at
from glr_dist.store.local import SMALL_BYTES
from glr_dist.store.storage import Storage

META = "meta.json"
FORMAT = 1

FILE = re.compile(r"samples-\d{5,}\.parquet")
_INTEGERS = ("index", "label", "before", "after")
_COLUMNS = ("x", "indices", "labels", "before", "after")  # of a batch, sample by sample
_SLACK = 1e-6  # of the ball's size, for float32


@dataclass(frozen=True, kw_only=True)
class AdversarialBatch:
    """A chunk of samples after an attack, and what the network that they were made on says of them."""

    x: NDArray[np.float32]  # [B, ...] in [0, 1]
    indices: Indices  # [B] positions in the split
    labels: NDArray[np.int64]  # [B]
    before: NDArray[np.int64]  # [B] the network's classes without the attack
    after: NDArray[np.int64]  # [B] and under it
    without_gradient: int = 0  # samples whose input gradient was zero or not finite
    queries: float = 0.0  # forward passes per sample, mean
    seconds: float = 0.0  # of work


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """A stored set whose files are all there and sound; small, and opened by each process for itself."""

    uri: str
    meta: dict[str, Any]  # all of meta.json
    indices: Indices  # [n] the samples' positions in the split, sorted
    starts: tuple[int, ...]  # the first row of each file, and in the end their number

    @property
    def attack(self) -> Attack:
        """The attack that made it."""
        return _attack(self.meta)

    def batch(self, wanted: Indices) -> AdversarialBatch:
        """The samples at some positions of the split, all of them in the set: sorted, [B]."""
        folder = Storage.at(self.uri)
        rows = np.searchsorted(self.indices, wanted)
        files = np.searchsorted(self.starts, rows, side="right") - 1
        parts = []
        for number in np.unique(files):
            most = self.starts[number + 1] - self.starts[number]
            whole = _decoded(folder, self.meta["files"][number]["name"], self.meta["shape"], most)
            own = rows[files == number] - self.starts[number]
            parts.append([getattr(whole, name)[own] for name in _COLUMNS])
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return AdversarialBatch(**dict(zip(_COLUMNS, columns, strict=True)))


def open_set(place: str, data: DataSource, split: str) -> SampleSet:
    """Open the stored set in a folder, after checking all of it against the clean samples that it shall be of.

    Raises:
        UserError: for a folder without a set, a file that is missing or not as it was written, samples of another type or
            shape, not finite, outside [0, 1] or too far from the clean ones, and for other data.
    """
    folder = Storage.at(place)
    meta = read_meta(folder)
    _refuse_other_data(folder, meta, data, split)
    indices: list[Indices] = []
    for file in meta["files"]:
        try:
            stored = folder.read(file["name"])
        except FileNotFoundError as error:
            raise UserError(f"--samples {folder}: {file['name']} is missing; make the set again") from error
        if hashlib.sha256(stored).hexdigest() != file["sha256"]:
            raise UserError(f"--samples {folder}: {file['name']} does not match its SHA-256; make the set again")
        batch = _decoded(folder, file["name"], meta["shape"], data.count(split), stored)
        _check(batch, data, split, _attack(meta).epsilon, f"--samples {folder}: {file['name']}")
        indices.append(batch.indices)
    found = np.concatenate(indices) if indices else np.empty(0, np.int64)
    if not len(found):
        raise UserError(f"--samples {folder}: holds no samples; make the set again")
    if (np.diff(found) <= 0).any():
        raise UserError(f"--samples {folder}: its samples are not in the order of their index; make the set again")
    starts = np.cumsum([0, *(len(part) for part in indices)])
    return SampleSet(uri=folder.uri, meta=meta, indices=found, starts=tuple(starts.tolist()))


def sets_at(place: str) -> list[str]:
    """The stored set in a folder; or those in the folders below it, as `glr-dist attack` writes several sizes."""
    folder = Storage.at(place)
    if folder.exists(META):
        return [place]
    below = [folder.folder(name) for name in folder.list() if "\\" not in name]
    found = [each.uri for each in below if each.exists(META)]
    return sorted(found, key=lambda uri: read_meta(Storage.at(uri))["attack"]["epsilon"]) or [place]


def read_meta(folder: Storage) -> dict[str, Any]:
    """The content of a set's meta.json; raises UserError when there is none, or it is none of this version's."""
    try:
        meta = json.loads(folder.read(META, SMALL_BYTES))
    except FileNotFoundError as error:
        raise UserError(f"--samples {folder}: there is no {META}: no set of samples, or one cut short") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"--samples {folder}: {META} is damaged; make the set again") from error
    try:
        assert isinstance(meta, dict)
        assert meta["format"] == FORMAT
        ModelCard(**meta["surrogate"], votes=0, right=np.empty(0, bool))
        assert isinstance(meta["files"], list) and isinstance(meta["shape"], list) and meta["shape"]
        assert all({"name", "sha256"} <= set(file) and FILE.fullmatch(file["name"]) for file in meta["files"])
        assert all(isinstance(meta["data"][key], str) for key in ("name", "split", "fingerprint"))
        assert isinstance(meta["data"]["rows"], list)
        assert type(meta["without_gradient"]) is int
        assert type(meta["queries"]) in (int, float)
        made = _attack(meta)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"--samples {folder}: {META} is none of this version's (format {FORMAT}); make the set again"
        ) from error
    if not made.stored:  # a proof that a file claims would stand among those that were made here
        raise UserError(
            f"--samples {folder}: {META} says that {made.name!r} made it, which makes no sets; what a file claims is no"
            f" proof: leave it out, and give --attack {made.name}"
        )
    return dict(meta)


def _attack(meta: Mapping[str, Any]) -> Attack:
    about: dict[str, Any] = dict(meta["attack"])
    name, epsilon = about.pop("name"), about.pop("epsilon")
    if about.get("draws") == 0:
        del about["draws"]  # older versions' word for as many as the attack makes by default
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in about.items()}
    return named_attack(name, epsilon, **settings)


def _refuse_other_data(folder: Storage, meta: Mapping[str, Any], data: DataSource, split: str) -> None:
    theirs = meta["data"]
    if tuple(meta["shape"]) != data.shape:
        raise UserError(
            f"--samples {folder}: its samples have shape {meta['shape']}, {data.name} has {list(data.shape)};"
            " make a set on these data"
        )
    if theirs["split"] != split:
        raise UserError(f"--samples {folder}: was made of the {theirs['split']} split; give --split {theirs['split']}")
    if (theirs["fingerprint"], theirs["rows"]) != (data.fingerprint, list(data.sizes(split))):
        raise UserError(
            f"--samples {folder}: was made of other data ({theirs['name']}, fingerprint {theirs['fingerprint'][:12]}…,"
            f" not {data.name}, {data.fingerprint[:12]}…, or in other shards); make a set on these data"
        )


def _decoded(
    folder: Storage, name: str, shape: Sequence[int], most: int, stored: bytes | None = None
) -> AdversarialBatch:
    """One file's samples, ``most`` at most, of the right type and shape."""
    what = f"--samples {folder}: {name}"
    data = folder.read(name) if stored is None else stored
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        about = file.metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        taken = sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns))
        limit = most * (4 * int(np.prod(shape)) + 64) * 2 + 2**16  # twice: levels, headers
        if about.num_rows > most or taken > limit:
            raise UserError(
                f"{what}: has {about.num_rows:,} samples that take {taken:,} bytes of memory, and {most:,} can be in it;"
                " make the set again"
            )
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{what} is no Parquet file; make the set again") from error
    wanted = {"x_adv": pa.list_(pa.float32(), int(np.prod(shape))), **dict.fromkeys(_INTEGERS, pa.int64())}
    for column, kind in wanted.items():
        found = table.schema.field(column).type if column in table.column_names else "missing"
        if not _alike(found, kind):
            raise UserError(f"{what}: column {column} is {found}, not {kind} (shape {list(shape)}); make the set again")
        if table[column].null_count:
            raise UserError(f"{what}: column {column} has empty cells; make the set again")
    flat = table["x_adv"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    integers = [table[column].to_numpy() for column in _INTEGERS]
    return AdversarialBatch(
        x=flat.reshape(-1, *shape), indices=integers[0], labels=integers[1], before=integers[2], after=integers[3]
    )


def _alike(found: Any, kind: Any) -> bool:
    if isinstance(found, str):
        return False
    if not pa.types.is_fixed_size_list(kind):
        return bool(found == kind)
    same = pa.types.is_fixed_size_list(found) and found.list_size == kind.list_size
    return bool(same and found.value_type == kind.value_type)


def _check(batch: AdversarialBatch, data: DataSource, split: str, epsilon: float, what: str) -> None:
    """Refuse samples that the attack can't have made of these data."""
    rows = data.count(split)
    if len(batch.indices) and not (batch.indices.min() >= 0 and batch.indices.max() < rows):
        raise UserError(f"{what}: an index is outside 0..{rows - 1}; make the set again")
    if not np.isfinite(batch.x).all():
        raise UserError(f"{what}: a value is not finite; make the set again")
    if batch.x.size and (batch.x.min() < 0 or batch.x.max() > 1):
        raise UserError(
            f"{what}: values from {batch.x.min():g} to {batch.x.max():g}, not in [0, 1] (divide bytes by 255);"
            " make the set again"
        )
    clean, labels = rows_at(data, split, batch.indices)
    if not np.array_equal(labels.numpy(), batch.labels):
        raise UserError(f"{what}: its labels are not those of {data.name}; make a set on these data")
    moved = float((torch.from_numpy(batch.x.copy()) - clean).abs().max())
    if moved > epsilon + _SLACK:
        raise UserError(
            f"{what}: a value lies {moved:g} from the clean one, more than eps = {epsilon:g}; make the set again"
        )


def write_chunk(folder: Storage, number: int, made: AdversarialBatch) -> dict[str, Any]:
    """Write a chunk's file, the same bytes whenever it is the same chunk: its ``name``, ``rows`` and ``sha256``."""
    flat = np.ascontiguousarray(made.x, dtype=np.float32).reshape(len(made.x), -1)
    columns = {"x_adv": pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel(), pa.float32()), flat.shape[1])}
    values = dict(zip(_INTEGERS, (made.indices, made.labels, made.before, made.after), strict=True))
    columns |= {name: pa.array(column, pa.int64()) for name, column in values.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd", use_dictionary=False, write_statistics=False)
    data = sink.getvalue().to_pybytes()
    name = f"samples-{number:05d}.parquet"
    folder.write(name, data)
    return {"name": name, "rows": len(flat), "sha256": hashlib.sha256(data).hexdigest()}
