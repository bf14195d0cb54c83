"""The journal: every loss bit for bit, at the promised size, whole steps only, damage named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from glr_dist.errors import UserError
from glr_dist.store.journal import JournalError, JournalReader, JournalWriter, estimate_bytes, truncate_journal
from glr_dist.store.journal_file import JournalRow
from glr_dist.store.storage import Storage

COPIES, ROWS = 3, 5


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


def floats(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Any float32 there is, NaNs with a payload and denormals too: 32 random bits."""
    return rng.integers(0, 2**32, shape, np.uint32).view(np.float32)


def zeros_and_ones(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 2, shape).astype(np.float32)


def step_rows(step: int, bits: bool, units: int = 2, shape: tuple[int, int] = (COPIES, ROWS)) -> list[JournalRow]:
    """The rows of a step, the same whenever it is asked for."""
    rng = np.random.default_rng(step)
    draw: Callable[..., np.ndarray] = zeros_and_ones if bits else floats
    return [
        JournalRow(
            step=step, site=unit - 1, unit=unit, seed=2**64 - step - unit, rows=shape[1], losses=draw(rng, shape)
        )
        for unit in range(units)
    ]


def write(run: Storage, steps: range, bits: bool = False, block_bytes: int = 300) -> int:
    with closing(JournalWriter(run, bits=bits, block_bytes=block_bytes)) as journal:
        for step in steps:
            journal.append(step_rows(step, bits))
        journal.flush()
        return journal.bytes_written


def read_all(run: Storage, steps: range) -> None:
    reader = JournalReader(run)
    for step in steps:
        reader.read(step)


def assert_holds(run: Storage, steps: range, bits: bool = False) -> None:
    reader = JournalReader(run)
    assert reader.steps() == steps
    for step in steps:
        for row, true in zip(reader.read(step), step_rows(step, bits), strict=True):
            assert (row.step, row.site, row.unit) == (true.step, true.site, true.unit)
            assert (row.seed, row.rows) == (true.seed, true.rows)
            assert row.losses.shape == true.losses.shape
            assert row.losses.tobytes() == true.losses.tobytes()
            assert row.losses.flags.writeable


@pytest.mark.parametrize("bits", [False, True])
def test_every_loss_comes_back_bit_for_bit(run: Storage, bits: bool) -> None:
    size = write(run, range(1, 30), bits)
    assert_holds(run, range(1, 30), bits)
    files = run.list("journal")
    assert len(files) > 1
    assert size == sum(len(run.read(f"journal/{name}")) for name in files)


def test_one_step_is_read_without_the_others(run: Storage) -> None:
    write(run, range(1, 30))
    rows = JournalReader(run).read(17)
    assert [row.unit for row in rows] == [0, 1]
    assert rows[1].losses.tobytes() == step_rows(17, False)[1].losses.tobytes()


def test_files_hold_whole_steps_and_join_up(run: Storage) -> None:
    write(run, range(1, 30))
    after = 1
    for name in run.list("journal"):
        first, last = (int(part) for part in name.split("-")[1:3])
        steps = pq.read_table(run.path(f"journal/{name}"))["step"].to_pylist()
        assert first == after
        assert steps == [step for step in range(first, last + 1) for _ in range(2)]
        after = last + 1
    assert after == 30


@pytest.mark.parametrize(("bits", "encoding"), [(False, "BYTE_STREAM_SPLIT"), (True, "DELTA_LENGTH_BYTE_ARRAY")])
def test_losses_are_encoded_as_promised(run: Storage, bits: bool, encoding: str) -> None:
    write(run, range(1, 3), bits)
    name = run.list("journal")[0]
    group = pq.read_metadata(run.path(f"journal/{name}")).row_group(0)
    losses = group.column(group.num_columns - 1)
    assert losses.path_in_schema.startswith("losses")
    assert encoding in losses.encodings
    assert losses.compression == "ZSTD"


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize(("bits", "shape"), [(False, (64, 128)), (False, (8, 32)), (True, (64, 1024))])
def test_the_estimate_is_an_upper_bound_within_a_fifth(
    run: Storage, bits: bool, shape: tuple[int, int], units: int
) -> None:
    steps = 300_000 // (shape[0] * shape[1] * units) * (8 if bits else 1) + 1
    with closing(JournalWriter(run, bits=bits)) as journal:
        for step in range(1, steps + 1):
            journal.append(step_rows(step, bits, units, shape))
        journal.flush()
        written = journal.bytes_written
    estimate = estimate_bytes(steps, shape[0] * shape[1] * units, bits)
    assert written <= estimate <= 1.2 * written
    losses = steps * units * shape[0] * shape[1]
    assert written * 8 / losses == pytest.approx(1 if bits else 32, rel=0.1)


def test_estimate_of_a_known_run() -> None:
    # 28,000 steps of 128 examples x 32 copies x 2 sites: 917.5 MB of float32, 28.7 MB of bits.
    assert estimate_bytes(28_000, 8192, False) == pytest.approx(917.5e6, rel=0.03)
    assert estimate_bytes(28_000, 8192, True) == pytest.approx(28.7e6, rel=0.06)


def test_a_loss_that_is_neither_0_nor_1_is_not_squeezed_into_a_bit(run: Storage) -> None:
    journal = JournalWriter(run, bits=True)
    journal.append(step_rows(1, bits=True))
    losses = np.array([[0.0, 1.0, np.nan]], np.float32)
    journal.append([JournalRow(step=2, site=-1, unit=4, seed=0, rows=3, losses=losses)])
    with pytest.raises(ValueError, match="step 2, unit 4: a loss is neither 0 nor 1"):
        journal.close()


def test_flush_puts_everything_on_disk_and_writing_goes_on(run: Storage) -> None:
    with closing(JournalWriter(run, bits=False)) as journal:
        for step in (1, 2, 3):
            journal.append(step_rows(step, bits=False))
        assert run.list("journal") == []
        journal.flush()
        assert_holds(run, range(1, 4))
        journal.flush()
        assert len(run.list("journal")) == 1
        journal.append(step_rows(4, bits=False))
    assert_holds(run, range(1, 5))
    write(run, range(5, 8))
    assert_holds(run, range(1, 8))


def test_steps_that_are_there_already_are_not_appended(run: Storage) -> None:
    write(run, range(1, 4))
    with closing(JournalWriter(run, bits=False)) as journal, pytest.raises(AssertionError, match="step 3 after step 3"):
        journal.append(step_rows(3, bits=False))


def test_append_does_not_wait_for_the_disk(run: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, inner, threads = threading.Event(), Storage.write, set()

    def slow(self: Storage, path: str, data: bytes) -> None:
        threads.add(threading.current_thread())
        assert gate.wait(20)
        inner(self, path, data)

    monkeypatch.setattr(Storage, "write", slow)
    journal = JournalWriter(run, bits=False, block_bytes=1)
    started = time.perf_counter()
    for step in (1, 2, 3):
        journal.append(step_rows(step, bits=False))
    assert time.perf_counter() - started < 5
    gate.set()
    journal.close()
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert_holds(run, range(1, 4))


def test_a_failure_in_the_background_comes_up(run: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Storage, path: str, data: bytes) -> None:
        raise UserError("no space left")

    monkeypatch.setattr(Storage, "write", full)
    journal = JournalWriter(run, bits=False, block_bytes=1)

    def append_on() -> None:
        for step in range(1, 1000):
            journal.append(step_rows(step, bits=False))
            time.sleep(0.01)

    for use in (append_on, journal.flush, journal.close):
        with pytest.raises(UserError, match="no space left"):
            use()
    journal.close()


@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("keep", [0, 1, 7, 14, 28, 29, 40])
def test_truncate_drops_all_later_steps(run: Storage, bits: bool, keep: int) -> None:
    write(run, range(1, 30), bits)
    truncate_journal(run, keep)
    truncate_journal(run, keep)
    left = range(1, min(keep, 29) + 1)
    assert len(JournalReader(run).steps()) == len(left)
    write(run, range(left.stop, 35), bits)
    assert_holds(run, range(1, 35), bits)


def test_an_interrupted_truncation_reads_well_and_can_be_done_again(
    run: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, range(1, 11), block_bytes=10**6)

    def interrupted(self: Storage, path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            truncate_journal(run, 4)
    assert len(run.list("journal")) == 2
    assert_holds(run, range(1, 11))
    truncate_journal(run, 4)
    assert len(run.list("journal")) == 1
    assert_holds(run, range(1, 5))


def test_a_full_disk_comes_up_and_leaves_whole_blocks(small_disk: Path) -> None:
    run = Storage.at(small_disk)
    journal = JournalWriter(run, bits=False, block_bytes=50_000)

    def append_steps() -> None:
        for step in range(1, 100):
            journal.append(step_rows(step, bits=False, shape=(64, 64)))

    with pytest.raises(UserError, match=f"no space left to write {small_disk}/journal/steps"):
        append_steps()
    with pytest.raises(UserError, match="no space left"):
        journal.close()
    steps = JournalReader(run).steps()
    assert 2 <= len(steps) <= 8
    assert all(len(JournalReader(run).read(step)) == 2 for step in steps)
    assert not [path for path in (small_disk / "journal").iterdir() if path.name.startswith(".")]


def test_damage_is_found_and_named(run: Storage) -> None:
    write(run, range(1, 30))
    name = run.list("journal")[1]
    data = bytearray(run.read(f"journal/{name}"))
    first = int(name.split("-")[1])
    for damaged in (bytes([*data[:100], data[100] ^ 4, *data[101:]]), bytes(data[:-1]), b""):
        run.write(f"journal/{name}", damaged)
        assert JournalReader(run).read(1)
        with pytest.raises(JournalError, match=f"{name} is damaged or cut short"):
            JournalReader(run).read(first)
        with pytest.raises(JournalError, match=f"{name} is damaged or cut short"):
            read_all(run, range(1, 30))


def test_missing_steps_are_told(run: Storage) -> None:
    assert JournalReader(run).steps() == range(0)
    with pytest.raises(JournalError, match=r"lacks step 1; it is empty.*--journal off"):
        JournalReader(run).read(1)
    write(run, range(1, 30))
    with pytest.raises(JournalError, match="lacks step 30; it has 1 to 29"):
        read_all(run, range(25, 31))
    name = run.list("journal")[1]
    run.delete(f"journal/{name}")
    with pytest.raises(JournalError, match=f"lacks step {int(name.split('-')[1])}; it has 1 to 29"):
        read_all(run, range(1, 30))
