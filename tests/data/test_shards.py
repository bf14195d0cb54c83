"""Folders of shards: nothing lost on the way, and every kind of damage told in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glr_dist.data.content import Splits
from glr_dist.data.shards import open_shards, read_shard, write_shards
from glr_dist.errors import UserError

CLASSES = ("cat", "dog", "owl")


def make_splits(seed: int = 0, train: int = 40, test: int = 11) -> Splits:
    rng = np.random.default_rng(seed)
    return {
        split: (rng.integers(0, 256, (n, 2, 3, 4), dtype=np.uint8), rng.integers(0, 3, n))
        for split, n in (("train", train), ("test", test))
    }


def write(folder: Path, splits: Splits | None = None, shards: int = 4) -> None:
    write_shards(folder, splits or make_splits(), name="zoo", classes=CLASSES, shards=shards)


def as_set(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_round_trip_keeps_every_row_and_all_metadata(tmp_path: Path) -> None:
    splits = make_splits()
    write(tmp_path / "zoo", splits)
    folder = open_shards(tmp_path / "zoo")
    assert (folder.header.name, folder.header.shape, folder.header.classes) == ("zoo", (2, 3, 4), CLASSES)
    assert folder.counts == {"train": (10, 10, 10, 10), "test": (6, 5)}
    for split, counts in folder.counts.items():
        parts = [read_shard(folder, split, shard) for shard in range(len(counts))]
        images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        assert as_set(images, labels) == as_set(*splits[split])


def test_another_reader_finds_the_documented_columns(tmp_path: Path) -> None:
    write(tmp_path / "zoo")
    table = pq.read_table(tmp_path / "zoo" / "train-00002-of-00004.parquet")
    assert table.schema.field("image").type == pa.binary(24)
    assert table.schema.field("label").type == pa.int64()
    assert table.schema.metadata[b"shape"] == b"[2, 3, 4]"
    assert table.schema.metadata[b"classes"] == b'["cat", "dog", "owl"]'


def test_every_shard_is_a_fair_sample_of_sorted_rows(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], 400)
    folder = write_shards(
        tmp_path / "s", {"train": (np.zeros((800, 1, 1, 1), np.uint8), labels)}, name="s", classes=("a", "b"), shards=4
    )
    ones = [int(read_shard(folder, "train", shard)[1].sum()) for shard in range(4)]
    assert sum(ones) == 400
    assert max(abs(n - 100) for n in ones) < 35  # 5.7 standard deviations of drawing 200 of 800 (6.1)


def test_same_data_gives_the_same_bytes_and_the_fingerprint_ignores_the_number_of_shards(tmp_path: Path) -> None:
    for name, shards in (("a", 4), ("b", 4), ("c", 7)):
        write(tmp_path / name, shards=shards)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    marks = {open_shards(tmp_path / name).header.fingerprint for name in "abc"}
    assert len(marks) == 1
    splits = make_splits()
    splits["test"][0][3, 1, 2, 3] ^= 1
    write(tmp_path / "d", splits)
    assert open_shards(tmp_path / "d").header.fingerprint not in marks


def test_writing_the_same_again_is_accepted_and_other_data_refused(tmp_path: Path) -> None:
    write(tmp_path / "zoo")
    before = (tmp_path / "zoo" / "train-00000-of-00004.parquet").stat().st_mtime_ns
    write(tmp_path / "zoo")
    assert (tmp_path / "zoo" / "train-00000-of-00004.parquet").stat().st_mtime_ns == before
    for splits, shards in ((make_splits(seed=1), 4), (make_splits(), 5)):
        with pytest.raises(UserError, match="holds other shards"):
            write(tmp_path / "zoo", splits, shards)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="holds something else"):
        write(tmp_path / "notes")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "zoo"]


WRITER = """
import sys
import numpy as np
from glr_dist.data.shards import write_shards
images = np.random.default_rng(0).integers(0, 256, (400, 2, 30, 40), dtype=np.uint8)
print("ready", flush=True)
sys.stdin.readline()
folder = write_shards(sys.argv[1], {"train": (images, np.zeros(400, np.int64))}, name="zoo", classes=("a",))
print(folder.header.fingerprint)
"""


def test_two_processes_preparing_at_once_both_end_well(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "zoo")]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    marks = {writer.communicate(timeout=60)[0].strip() for writer in writers}
    assert [writer.returncode for writer in writers] == [0, 0]
    assert marks == {open_shards(tmp_path / "zoo").header.fingerprint}
    assert [p.name for p in tmp_path.iterdir()] == ["zoo"]


def test_the_second_to_rename_takes_the_first_ones_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def too_late(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        write(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", too_late)
    write(tmp_path / "zoo")
    assert open_shards(tmp_path / "zoo").counts["train"] == (10, 10, 10, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["zoo"]


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "zoo")
    assert list(tmp_path.iterdir()) == []


SHARD = "train-00001-of-00004.parquet"


def _cut_short(folder: Path) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[:-100])


def _empty_file(folder: Path) -> None:
    (folder / SHARD).write_bytes(b"")


def _remove_one(folder: Path) -> None:
    (folder / SHARD).unlink()


def _rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(folder / SHARD)
    metadata = table.schema.metadata
    pq.write_table(change(table).replace_schema_metadata(metadata), folder / SHARD)


def _rename_column(folder: Path) -> None:
    _rewrite(folder, lambda table: table.rename_columns(["picture", "label"]))


def _drop_metadata(folder: Path) -> None:
    table = pq.read_table(folder / SHARD)
    pq.write_table(table.replace_schema_metadata(None), folder / SHARD)


def _wide_label(folder: Path) -> None:
    labels = [0] * 7 + [5] + [0] * 2
    field = pa.field("label", pa.int64())
    _rewrite(folder, lambda table: table.set_column(1, field, [labels]))


def _empty_cell(folder: Path) -> None:
    nothing = pa.nulls(10, pa.int64())
    _rewrite(folder, lambda table: table.set_column(1, pa.field("label", pa.int64()), nothing))


def _other_shape(folder: Path) -> None:
    splits = make_splits()
    other = {split: (images.reshape(-1, 2, 4, 3), labels) for split, (images, labels) in splits.items()}
    write(folder.parent / "other", other)
    (folder.parent / "other" / SHARD).replace(folder / SHARD)


def _other_data(folder: Path) -> None:
    write(folder.parent / "other", make_splits(seed=9))
    (folder.parent / "other" / SHARD).replace(folder / SHARD)


def _two_sets(folder: Path) -> None:
    write(folder.parent / "other", shards=3)
    (folder.parent / "other" / "train-00000-of-00003.parquet").rename(folder / "train-00000-of-00003.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_short, f"{SHARD} is cut short or damaged"),
        (_empty_file, f"{SHARD} is cut short or damaged"),
        (_remove_one, f"lacks {SHARD}"),
        (_rename_column, f"{SHARD} has format 1 and columns picture"),
        (_drop_metadata, f"{SHARD} lacks name, shape"),
        (_wide_label, rf"{SHARD}, row 7: label 5 is out of range: there are 3 classes"),
        (_empty_cell, f"{SHARD} has empty cells in column 'label'"),
        (_other_shape, rf"{SHARD} has shape \(2, 4, 3\), but train-00000-of-00004.parquet has \(2, 3, 4\)"),
        (_other_data, f"{SHARD} has fingerprint"),
        (_two_sets, "mixes train shards of sets of 3 and 4 files"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "zoo")
    damage(tmp_path / "zoo")
    with pytest.raises(UserError, match=message) as caught:
        open_shards(tmp_path / "zoo")
    assert "\n" not in str(caught.value)


def test_one_flipped_byte_of_the_pixels_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "zoo")
    path = tmp_path / "zoo" / SHARD
    content = bytearray(path.read_bytes())
    content[120] ^= 1
    path.write_bytes(content)
    folder = open_shards(tmp_path / "zoo")
    with pytest.raises(UserError, match=f"{SHARD} is damaged"):
        read_shard(folder, "train", 1)


def test_folders_without_shards_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-root.*holds no training shards.*train-00000-of"):
        open_shards(tmp_path)
    with pytest.raises(UserError, match=r"--data-root.*is not a folder"):
        open_shards(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("images", "labels", "shards", "message"),
    [
        (np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, np.int64), 2, "float32"),
        (np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.int64), 2, r"\[4, 2, 2\]"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.zeros(3, np.int64), 2, "4 rows of features and 3 labels"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 0, 3, 0]), 2, "train, row 2: label 3"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, np.int64), 5, "data.shards is 5: choose from 1 to 4"),
        (np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, np.int64), 0, "data.shards is 0"),
        (np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, np.int64), 1, "train has no rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, shards: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_shards(tmp_path / "x", {"train": (images, labels)}, name="x", classes=CLASSES, shards=shards)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write shards to"):
        write(tmp_path / "file" / "zoo")
