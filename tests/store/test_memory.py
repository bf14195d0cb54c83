"""What waits to be written is counted by what it takes: small losses don't pile up."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from glr_dist.store import journal as journals
from glr_dist.store.journal import JournalReader, JournalWriter
from glr_dist.store.journal_file import JournalRow
from glr_dist.store.storage import Storage


def test_rows_of_few_bytes_are_handed_over_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode, done = journals.encode, threading.Event()

    def counted(rows: list[JournalRow], bits: bool) -> object:
        sizes.append(len(rows))
        done.set()
        return encode(rows, bits)

    monkeypatch.setattr(journals, "encode", counted)
    steps = 6_000
    with closing(JournalWriter(Storage.at(tmp_path), bits=False)) as journal:
        for step in range(1, steps + 1):
            losses = np.ones((2, 2), np.float32)  # 16 bytes; with all around them 2,000
            journal.append([JournalRow(step=step, site=0, unit=0, seed=1, rows=2, losses=losses)])
        assert done.wait(30)
    assert max(sizes) * 2_000 < 9e6
    assert sum(sizes) == steps
    assert len(list((tmp_path / "journal").iterdir())) == 1  # in files of as many steps as before
    assert len(JournalReader(Storage.at(tmp_path)).steps()) == steps
