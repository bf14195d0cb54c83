"""Files that hold tables: CSV, Parquet (also Hugging Face's, with images in it), ARFF and libsvm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glr_dist.data.config import DataConfig
from glr_dist.data.content import Features, Targets
from glr_dist.data.found import Found, as_classes
from glr_dist.data.images import Look, Source, decode, named
from glr_dist.data.tables import Columns, Scale, from_columns, guessed_label, known_column
from glr_dist.errors import UserError, first_line

Files = Mapping[str, Sequence[Path]]  # by split
_NO_VALUE = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "?"]
_DELIMITERS = (",", ";", "\t", "|")


def read_csv(files: Files, config: DataConfig) -> tuple[Found, Scale]:
    """Comma-separated values, or such with semicolons, tabs or bars; with a line of column names, or without."""
    heads = {path: _head(path) for paths in files.values() for path in paths}
    (header,) = {header for _, header in heads.values()} if len({h for _, h in heads.values()}) == 1 else (None,)
    if header is None:
        raise UserError("some of the files begin with column names and some do not: make them alike")
    tables = {split: _joined([_csv(path, *heads[path]) for path in paths]) for split, paths in files.items()}
    found, scale = from_columns("CSV", {s: _columns(t, config.drop) for s, t in tables.items()}, config)
    if not header:
        found.notes.insert(0, "without a line of column names: they are called f0, f1, ...")
    return found, scale


def read_parquet(files: Files, config: DataConfig) -> tuple[Found, Scale | None]:
    """Columns of numbers and texts; or images as Hugging Face stores them; or one column of lists, such as token ids."""
    tables = {split: _joined([_parquet(path) for path in paths]) for split, paths in files.items()}
    train = tables["train"]
    names = _hugging_face_names(train)
    images = next((field.name for field in train.schema if _holds_images(field.type)), "")
    lists = next((field.name for field in train.schema if _is_list(field.type)), "")
    if not images and not lists:
        kind = "Parquet"
        return from_columns(kind, {s: _columns(t, config.drop) for s, t in tables.items()}, config, names)
    label = config.label[0] if config.label else guessed_label(train.column_names)
    known_column("data.label", label, train.column_names)
    column = _columns(train.select([label]), ())[label]
    if column.dtype.kind == "f" or config.targets == "numbers":
        targets: dict[str, Targets] = {s: np.asarray(t[label])[:, None].astype(np.float32) for s, t in tables.items()}
        classes: tuple[str, ...] = (label,)
    else:
        targets, classes = as_classes({s: _columns(t.select([label]), ())[label] for s, t in tables.items()})
        classes = tuple(names[label][int(each)] for each in classes) if label in names else classes
    notes = [f"column {label!r} is what is predicted (data.label)"]
    features: Mapping[str, Features]
    if images:
        sources: dict[str, list[Source]] = {
            split: [_bytes(cell, images) for cell in t[images].to_pylist()] for split, t in tables.items()
        }
        look = Look(resize=config.resize, crop=config.crop, grey=config.grey)
        features, more = decode(sources, look, named([each for group in sources.values() for each in group]))
        kind = "Parquet with images"
        notes += more
    else:
        features = {split: _stacked(t[lists].to_pylist(), lists) for split, t in tables.items()}
        kind = f"Parquet with lists in column {lists!r}"
    pairs: dict[str, tuple[Features, Targets]] = {split: (features[split], targets[split]) for split in tables}
    return Found(kind=kind, splits=pairs, classes=classes, notes=notes), None


def read_arff(files: Files, config: DataConfig) -> tuple[Found, Scale]:
    """Weka's attribute-relation files, by SciPy."""
    from scipy.io.arff import loadarff

    tables = {}
    for split, (path, *_) in files.items():
        try:
            rows, _ = loadarff(str(path))
        except Exception as error:  # SciPy raises NotImplementedError, its own errors, ValueError, StopIteration, ...
            raise UserError(f"{path}: can't be read as ARFF: {first_line(error)}") from error
        columns: Columns = {}
        for name in rows.dtype.names:
            values = rows[name]
            columns[name] = np.char.decode(values, "utf-8").astype(object) if values.dtype.kind == "S" else values
            _refuse_empty(path.name, name, np.isnan(values) if values.dtype.kind == "f" else columns[name] == "?")
        tables[split] = columns
    return from_columns("ARFF", tables, config)


def read_libsvm(files: Files, config: DataConfig) -> tuple[Found, Scale]:
    """Sparse rows ``LABEL INDEX:VALUE ...``, by scikit-learn."""
    from sklearn.datasets import load_svmlight_files

    paths = {split: path for split, (path, *_) in files.items()}
    try:
        read = load_svmlight_files([str(path) for path in paths.values()])
    except Exception as error:
        raise UserError(f"{next(iter(paths.values()))}: can't be read as libsvm: {first_line(error)}") from error
    tables = {}
    for number, split in enumerate(paths):
        x, y = read[2 * number].toarray(), read[2 * number + 1]
        tables[split] = {f"f{i}": x[:, i] for i in range(x.shape[1])} | {"label": y}
    found, scale = from_columns("libsvm", tables, config)
    return found, scale


def _head(path: Path) -> tuple[str, bool]:
    """The delimiter of a CSV file, and whether its first line names the columns."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no text in UTF-8: {first_line(error)}") from error
    if not line.strip():
        raise UserError(f"{path}: is empty, or begins with an empty line")
    delimiter = max(_DELIMITERS, key=line.count)
    return delimiter, not all(_is_number(cell.strip().strip('"')) for cell in line.split(delimiter)[:-1] or [line])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv(path: Path, delimiter: str, header: bool) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    try:
        return csv.read_csv(
            path,
            csv.ReadOptions(autogenerate_column_names=not header, use_threads=False),
            csv.ParseOptions(delimiter=delimiter),
            csv.ConvertOptions(null_values=_NO_VALUE, strings_can_be_null=True),
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: can't be read as CSV: {first_line(error)}") from error


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is cut short or damaged, or no Parquet file: {first_line(error)}") from error


def _joined(tables: Sequence[Any]) -> Any:
    import pyarrow as pa

    try:
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise UserError(f"files of one split have other columns: {first_line(error)}") from error


def _columns(table: Any, dropped: Sequence[str]) -> Columns:
    """The columns of a pyarrow table, without empty cells; those that are left out may have some, or be of any kind."""
    import pyarrow as pa

    found: Columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in dropped:
            found[name] = np.arange(len(column))
            continue
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        simple = (
            pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        )
        texts = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if not (simple or texts):
            raise UserError(f"column {name!r} holds {column.type}: leave it out by --set data.drop={name}")
        values = np.asarray(column.to_pylist(), dtype=object) if texts else column.to_numpy(zero_copy_only=False)
        empty = np.asarray(column.is_null(nan_is_null=True))
        _refuse_empty("", name, empty)
        found[name] = values
    return found


def _refuse_empty(file: str, column: str, empty: Any) -> None:
    if count := int(np.sum(empty)):
        raise UserError(
            f"{file + ', ' if file else ''}column {column!r} has {count} empty cells (NaN, ?): fill them, or leave the"
            f" column out by --set data.drop={column}"
        )


def _hugging_face_names(table: Any) -> dict[str, Sequence[str]]:
    """The class names that Hugging Face wrote into the schema's metadata, by column."""
    try:
        said = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said.get("info", {}).get("features", {})
        return {name: tuple(about["names"]) for name, about in features.items() if "names" in about}
    except (AttributeError, TypeError, ValueError):
        return {}


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa

    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(binary or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _bytes(cell: Any, column: str) -> bytes:
    content = cell["bytes"] if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise UserError(f"column {column!r} names images that lie elsewhere: save the data set with their bytes in it")
    return content


def _stacked(rows: Sequence[Any], column: str) -> Features:
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise UserError(
            f"column {column!r} has lists of {min(lengths)} to {max(lengths)} values: pad or cut them to one length"
        )
    values = np.asarray(rows)
    if values.dtype.kind not in "fiu":
        raise UserError(f"column {column!r} holds lists of {values.dtype}: write numbers there")
    return values.astype(np.int64 if values.dtype.kind in "iu" else np.float32)
