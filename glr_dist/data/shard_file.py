"""One Parquet shard: its schema, its metadata, writing and reading it.

Columns: `image` (fixed-size binary, C*H*W bytes of uint8) and `label` (int64). The schema's metadata holds
the name, the shape [C, H, W], the class names, the fingerprint of the whole data set and the format's
version; pages carry checksums.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glr_dist.data.content import Labels
from glr_dist.errors import UserError

FORMAT = "1"
PREPARE_AGAIN = (
    "prepare the data again into a new folder (`glr-dist data prepare`), or, in the cache, remove its folder"
)

Images = NDArray[np.uint8]


class Header(NamedTuple):
    """What every shard of one data set says alike."""

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    fingerprint: str


def write_file(path: Path, images: Images, labels: Labels, header: Header) -> None:
    """Write one shard: images uint8 [n, C, H, W], labels int64 [n]; an OSError passes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.binary(int(np.prod(header.shape)))
    metadata = {"format": FORMAT, **{key: json.dumps(value) for key, value in header._asdict().items()}}
    fields = [pa.field("image", image, nullable=False), pa.field("label", pa.int64(), nullable=False)]
    buffer = pa.py_buffer(np.ascontiguousarray(images))
    pixels = pa.FixedSizeBinaryArray.from_buffers(image, len(labels), [None, buffer])
    table = pa.table([pixels, pa.array(labels, pa.int64())], schema=pa.schema(fields, metadata=metadata))
    pq.write_table(
        table, path, compression="zstd", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )


def read_footer(path: Path) -> tuple[Header, int]:
    """What a shard says of itself: its header and its number of rows.

    Raises:
        UserError: naming the file when it is damaged or no shard of this format.
    """
    import pyarrow as pa

    file = _open(path)
    schema, rows = file.schema_arrow, int(file.metadata.num_rows)
    file.close()
    try:
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        values = {field: json.loads(metadata[field]) for field in Header._fields}
        header = Header(values["name"], tuple(values["shape"]), tuple(values["classes"]), values["fingerprint"])
        channels, height, width = header.shape
        wanted = {"image": pa.binary(channels * height * width), "label": pa.int64()}
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} lacks {', '.join(Header._fields)} in its schema's metadata: {PREPARE_AGAIN}"
        ) from error
    found = {field.name: field.type for field in schema}
    if metadata.get("format") != FORMAT or any(found.get(column) != kind for column, kind in wanted.items()):
        raise UserError(
            f"{path} has format {metadata.get('format')} and columns {_columns(found)}, not format {FORMAT} "
            f"and {_columns(wanted)}: {PREPARE_AGAIN}"
        )
    return header, rows


def read_labels(path: Path) -> Labels:
    """The labels alone, int64 [n], read-only; raises UserError, naming the file, when it is damaged."""
    labels: Labels = _read(path, ["label"])["label"].to_numpy()
    return labels


def read_file(path: Path, shape: tuple[int, int, int]) -> tuple[Images, Labels]:
    """Decode one shard; checksums are verified on the way.

    Returns:
        Images uint8 [n, *shape] and labels int64 [n], read-only views of the decoded columns.

    Raises:
        UserError: naming the file when it is damaged or has another shape.
    """
    table = _read(path, ["image", "label"])
    image = table["image"].combine_chunks()
    width = image.type.byte_width
    if width != np.prod(shape):
        raise UserError(f"{path} holds images of {width} bytes, not of shape {list(shape)}: {PREPARE_AGAIN}")
    # A view of Arrow's own buffer: the pixels are not copied again.
    pixels = np.frombuffer(image.buffers()[1], np.uint8)[image.offset * width :][: len(image) * width]
    return pixels.reshape(-1, *shape), table["label"].to_numpy()


def _columns(kinds: dict[str, Any]) -> str:
    return ", ".join(f"{column} {kind}" for column, kind in kinds.items())


def _open(path: Path) -> Any:
    """A pyarrow ParquetFile that verifies checksums."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():  # a pipe would be waited for without end
        raise UserError(f"{path} is missing, or no regular file: {PREPARE_AGAIN}")
    try:
        return pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is cut short or damaged, or no Parquet file: {PREPARE_AGAIN}") from error


def _read(path: Path, columns: list[str]) -> Any:
    """The columns as a pyarrow table without nulls."""
    import pyarrow as pa

    file = _open(path)
    try:
        # One thread: an evaluator has one core.
        table = file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:120]}): {PREPARE_AGAIN}") from error
    finally:
        file.close()
    for column in columns:
        if table[column].null_count:
            raise UserError(f"{path} has empty cells in column {column!r}: {PREPARE_AGAIN}")
    return table
