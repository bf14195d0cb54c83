"""The journal's files: rows to Parquet bytes and back, and the names that carry step range, hash and, with a key, signature.

Columns: step, site, unit, seed, rows, copies, and losses, flattened from [copies, rows]: list<float32> (byte-
stream-split, zstd), or one bit each (numpy.packbits, the first loss in the highest bit) in a binary.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from glr_dist.errors import first_line
from glr_dist.store.signature import Signer
from glr_dist.store.storage import Storage

FOLDER = "journal"
NAME = re.compile(r"(steps-(\d{8,})-(\d{8,}))-([0-9a-f]{16})(?:-([0-9a-f]{64}))?\.parquet")
_INTEGERS = {
    "step": pa.int64(),
    "site": pa.int32(),
    "unit": pa.int32(),
    "seed": pa.uint64(),
    "rows": pa.int32(),
    "copies": pa.int32(),
}
_ROW_BYTES = 12  # least of a row: its seed, and one loss or 8 of one bit
FLOATS = pa.list_(pa.field("element", pa.float32(), nullable=False))


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """What one work unit sent home.

    Attributes:
        step: the optimizer step, from 1.
        site: the noised site's index, -1 for all at once.
        unit: the unit's index in its step.
        seed: the unit's seed, 64 bits.
        rows: examples in the unit.
        losses: [copies, rows] float32.
    """

    step: int
    site: int
    unit: int
    seed: int
    rows: int
    losses: npt.NDArray[np.float32]

    @property
    def copies(self) -> int:
        """Noisy copies of each example."""
        return len(self.losses)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A journal file: its name and the first and last step in it."""

    name: str
    first: int
    last: int

    def matches(self, data: bytes) -> bool:
        """Whether these are the bytes that the name's hash was taken of."""
        match = NAME.fullmatch(self.name)
        return match is not None and match[4] == hashlib.sha256(data).hexdigest()[:16]

    def signed_by(self, signer: Signer, data: bytes) -> bool:
        """Whether the name has the signer's signature of these bytes."""
        match = NAME.fullmatch(self.name)
        return match is not None and hmac.compare_digest(match[5] or "", signer.sign(match[1], data))


def list_blocks(run: Storage, all_files: bool = False) -> list[Block]:
    """The journal's files by first step; with ``all_files`` also those whose steps a longer one holds too.

    There are such when a truncation was interrupted.
    """
    matches = [match for match in map(NAME.fullmatch, run.list(FOLDER)) if match]
    blocks = [Block(name=match[0], first=int(match[2]), last=int(match[3])) for match in matches]
    blocks.sort(key=lambda block: (block.first, -block.last))
    kept: list[Block] = []
    for block in blocks:
        if all_files or not kept or block.last > kept[-1].last:
            kept.append(block)
    return kept


def encode(rows: Sequence[JournalRow], bits: bool) -> Any:
    """Rows as an Arrow table.

    Raises:
        ValueError: `bits`, and a loss is neither 0 nor 1.
    """
    columns = {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in _INTEGERS.items()}
    if bits:
        columns["losses"] = pa.array([_packed(row) for row in rows], pa.binary())
    else:
        offsets = pa.array(np.cumsum([0, *(row.losses.size for row in rows)]), pa.int32())
        flat = pa.array(np.concatenate([row.losses.ravel() for row in rows]))
        columns["losses"] = pa.ListArray.from_arrays(offsets, flat, type=FLOATS)
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    return pa.table(columns, schema=schema.with_metadata({"glr_dist.journal": "1"}))


def write_block(run: Storage, tables: Sequence[Any], signer: Signer | None = None) -> int:
    """Write tables as one file, signed if somebody signs; returns its size in bytes."""
    table = pa.concat_tables(tables)
    bits = pa.types.is_binary(table.schema.field("losses").type)
    how = dict.fromkeys(_INTEGERS, "DELTA_BINARY_PACKED") | {"seed": "PLAIN"}
    how |= {"losses": "DELTA_LENGTH_BYTE_ARRAY"} if bits else {"losses.list.element": "BYTE_STREAM_SPLIT"}
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, column_encoding=how, write_statistics=False)
    data = sink.getvalue().to_pybytes()
    first, last = table["step"][0].as_py(), table["step"][-1].as_py()
    steps = f"steps-{first:08d}-{last:08d}"
    signature = "" if signer is None else f"-{signer.sign(steps, data)}"
    run.write(f"{FOLDER}/{steps}-{hashlib.sha256(data).hexdigest()[:16]}{signature}.parquet", data)
    return len(data)


def decode(data: bytes, most: int) -> Iterator[JournalRow]:
    """The rows of a file, which takes ``most`` bytes of memory at most; losses are fresh writable arrays.

    Raises:
        ValueError: it would take more, or is no journal file.
    """
    table = _table(data, most).combine_chunks()
    columns = {name: table[name].to_pylist() for name in _INTEGERS}
    losses: Any = table["losses"].chunk(0) if table.num_rows else None
    for index in range(table.num_rows):
        fields = {name: column[index] for name, column in columns.items()}
        shape = (fields.pop("copies"), fields["rows"])
        if min(shape) < 1:
            raise ValueError(f"a row has shape {list(shape)}")
        if pa.types.is_binary(losses.type):
            packed = np.frombuffer(losses[index].as_buffer(), np.uint8)
            if len(packed) != -(-shape[0] * shape[1] // 8):
                raise ValueError(f"a row of shape {list(shape)} has {len(packed)} bytes")
            flat = np.unpackbits(packed, count=shape[0] * shape[1]).astype(np.float32)
        else:
            flat = losses[index].values.to_numpy().copy()
        yield JournalRow(**fields, losses=flat.reshape(shape))


def _table(data: bytes, most: int) -> Any:
    """A file's table, after a look at how large its footer says that it is."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        about = file.metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        taken = sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns))
        taken = max(taken, about.num_rows * _ROW_BYTES)
        if taken > most:
            raise ValueError(f"it would take {taken:,} bytes of memory, not {most:,} at most")
        kinds = {name: file.schema_arrow.field(name).type for name in (*_INTEGERS, "losses")}
        if any(kinds[name] != kind for name, kind in _INTEGERS.items()) or kinds["losses"] not in (FLOATS, pa.binary()):
            raise ValueError("its columns are not those of a journal")
        table = file.read()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(first_line(error)) from error
    if any(table[name].null_count for name in kinds):
        raise ValueError("it has empty cells")
    return table


def keep_until(run: Storage, data: bytes, step: int, signer: Signer | None, most: int) -> None:
    """Write a file's steps up to `step`, included, as a file of their own; it takes ``most`` bytes of memory at most."""
    table = _table(data, most)
    write_block(run, [table.filter(pc.field("step") <= step)], signer)


def _packed(row: JournalRow) -> bytes:
    ones = row.losses == 1
    if not (ones | (row.losses == 0)).all():
        raise ValueError(f"step {row.step}, unit {row.unit}: a loss is neither 0 nor 1; journal floats instead")
    return np.packbits(ones.ravel()).tobytes()
