"""The journal: the seeds and every loss of every step, in Parquet, written off the step's critical path.

Initial parameters and journal give every later checkpoint bit for bit. A block holds whole steps and is one
file, `journal/steps-00000001-00000500-<first 16 hex digits of the SHA-256 of its bytes>.parquet`. Losses
are float32 or, where they are 0 or 1, one bit each.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_dist.errors import UserError, first_line
from glr_dist.store.journal_file import FOLDER, Block, JournalRow, decode, encode, keep_until, list_blocks, write_block
from glr_dist.store.signature import Signer
from glr_dist.store.storage import Storage

BLOCK_BYTES = 8 * 2**20
ROW_MEMORY = 2048  # bytes that a row takes beside its losses until it is encoded: Python, numpy and torch objects
STEP_OVERHEAD = 24  # bytes beside a step's losses: seeds and indices
BLOCK_OVERHEAD = 6144  # and beside a file's: Parquet's headers and footer


class JournalError(UserError):
    """A journal that is damaged, or lacks the steps asked for."""


class JournalWriter:
    """Appends steps; one background thread encodes and writes full blocks.

    ``bits``: losses are 0 or 1 and take one bit each. ``signer``: signs every file. ``block_bytes``: encoded losses per
    file, in bytes; also what is handed to the thread at once. Every method raises the UserError of an earlier block that
    could not be written.
    """

    def __init__(
        self, run: Storage, *, bits: bool, signer: Signer | None = None, block_bytes: int = BLOCK_BYTES
    ) -> None:
        run.clean(FOLDER)
        blocks = list_blocks(run)
        self.bytes_written = 0
        self._run, self._bits, self._signer, self._block_bytes = run, bits, signer, block_bytes
        self._last = blocks[-1].last if blocks else 0
        self._rows: list[JournalRow] = []
        self._waiting = 0
        self._error: BaseException | None = None
        self._queue: queue.Queue[list[JournalRow] | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._write_blocks, name="journal", daemon=True)
        self._thread.start()

    def append(self, rows: Sequence[JournalRow]) -> None:
        """Add one or more whole steps, ascending; keeps references, so the losses must not change afterwards."""
        self._check()
        for row in rows:
            assert row.losses.dtype == np.float32, "losses are float32"
            assert row.losses.ndim == 2, "losses are [copies, rows]"
            assert row.losses.shape[1] == row.rows > 0, "rows is the number of examples in losses"
        steps = [row.step for row in rows]
        assert steps == sorted(steps), "steps ascend"
        assert not steps or steps[0] > self._last, f"step {steps[0]} after step {self._last}: append whole steps"
        self._last = steps[-1] if steps else self._last
        self._rows += rows
        self._waiting += sum(row.losses.nbytes + ROW_MEMORY for row in rows)
        if self._waiting >= self._block_bytes:
            self._hand_over()

    def flush(self) -> None:
        """Return when everything appended is on disk."""
        self._check()
        self._hand_over()
        self._queue.put([])
        self._queue.join()
        self._check()

    def close(self) -> None:
        """Flush and stop the thread. Closing twice is fine."""
        if not self._thread.is_alive():
            return
        try:
            self.flush()
        finally:
            self._queue.put(None)
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        assert self._thread.is_alive(), "the journal is closed"

    def _hand_over(self) -> None:
        """Give the thread what waits; blocks while it is two hand-overs behind."""
        if self._rows:
            self._queue.put(self._rows)
            self._rows, self._waiting = [], 0

    def _write_blocks(self) -> None:
        """The thread: encode each hand-over, write a block when full, or at an empty one (a flush)."""
        tables: list[Any] = []
        while True:
            rows = self._queue.get()
            try:
                if rows and self._error is None:
                    tables.append(encode(rows, self._bits))
                full = sum(table.nbytes for table in tables) >= self._block_bytes
                if tables and self._error is None and (full or not rows):
                    self.bytes_written += write_block(self._run, tables, self._signer)
                    tables = []
            except BaseException as error:  # handed to the next append or flush
                self._error = error
                tables = []
            finally:
                self._queue.task_done()
            if rows is None:
                return


class JournalReader:
    """Reads a run's journal, block by block, each verified against the hash, and the signature if asked, in its name."""

    def __init__(self, run: Storage, signer: Signer | None = None) -> None:
        self._run, self._signer = run, signer
        self.most = most_bytes(0)  # bytes of memory that a file may take
        self._blocks = list_blocks(run)
        self._open: tuple[Block, dict[int, list[JournalRow]]] | None = None

    def steps(self) -> range:
        """From the first step to the last; empty without a journal."""
        return range(self._blocks[0].first, self._blocks[-1].last + 1) if self._blocks else range(0)

    def read(self, step: int) -> list[JournalRow]:
        """The rows of one step, in the order in which they were appended.

        Raises:
            JournalError: the step is not in the journal, or its file is damaged.
        """
        block = next((block for block in self._blocks if block.first <= step <= block.last), None)
        rows = self._load(block).get(step) if block else None
        if rows is None:
            have = self.steps()
            found = f"it has {have[0]} to {have[-1]}" if have else "it is empty: was the run made with --journal off?"
            raise JournalError(f"the journal of {self._run} lacks step {step}; {found}")
        return rows

    def _load(self, block: Block) -> dict[int, list[JournalRow]]:
        """A block's rows by step; the last one stays open."""
        if self._open is None or self._open[0] != block:
            rows: dict[int, list[JournalRow]] = {}
            try:
                for row in decode(_verified(self._run, block, self._signer), self.most):
                    rows.setdefault(row.step, []).append(row)
            except ValueError as error:
                raise _no_journal(self._run, block, error) from error
            self._open = (block, rows)
        return self._open[1]


def truncate_journal(run: Storage, step: int, signer: Signer | None = None, most: int | None = None) -> None:
    """Drop all steps after `step`; may be interrupted and done again; no writer may be open.

    ``signer``: signed it. ``most``: bytes of memory that a file may take.

    Raises:
        JournalError: the block that holds `step` is damaged.
    """
    run.clean(FOLDER)
    # From the end, and the shortened block before its original goes: what is left always reads as a journal.
    for block in reversed(list_blocks(run, all_files=True)):
        if block.last > step:
            run.refuse_linked(f"{FOLDER}/{block.name}")
        if block.first <= step < block.last:
            try:
                keep_until(run, _verified(run, block, signer), step, signer, most or most_bytes(0))
            except ValueError as error:
                raise _no_journal(run, block, error) from error
        if block.last > step:
            run.delete(f"{FOLDER}/{block.name}")


def estimate_bytes(steps: int, losses_per_step: int, bits: bool) -> int:
    """An upper bound of a journal's size on disk, in bytes: losses are taken as incompressible.

    Args:
        steps: optimizer steps.
        losses_per_step: copies x examples x sites that are noised separately.
        bits: losses are 0 or 1.
    """
    losses = steps * losses_per_step
    data = losses // 8 + steps if bits else 4 * losses
    return data + data // 50 + STEP_OVERHEAD * steps + BLOCK_OVERHEAD * (1 + data // BLOCK_BYTES)


def most_bytes(losses_per_step: int) -> int:
    """What a journal's file may take of memory, in bytes: a block, and what is handed over when it is nearly full."""
    return 3 * BLOCK_BYTES + 96 * losses_per_step  # of which 4 are the loss, the rest is for units of few losses


def _no_journal(run: Storage, block: Block, error: ValueError) -> JournalError:
    if isinstance(error, UserError):
        return JournalError(str(error))
    place = run.folder(f"{FOLDER}/{block.name}")
    return JournalError(f"the journal file {place} is none that this program wrote: {first_line(error)}")


def _verified(run: Storage, block: Block, signer: Signer | None) -> bytes:
    """A block's bytes, hash and signature checked."""
    place = run.folder(f"{FOLDER}/{block.name}")
    try:
        data = run.read(f"{FOLDER}/{block.name}")
    except FileNotFoundError as error:
        raise JournalError(f"the journal file {place} is gone, or a link to what is not there") from error
    if not block.matches(data):
        raise JournalError(f"the journal file {place} is damaged or cut short: its SHA-256 is not the one in its name")
    if signer is not None and not block.signed_by(signer, data):
        raise JournalError(f"the journal file {place} is not signed with this --journal-key: the run did not write it")
    return data
