"""metrics.jsonl: lines in order, none half-written, cut back on a resume."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glr_dist.errors import UserError
from glr_dist.store.metrics import MetricsWriter, read_metrics, truncate_metrics
from glr_dist.store.storage import Storage


@pytest.fixture
def run(folder: Storage) -> Storage:
    return folder


def lines(*steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "loss": step / 3} for step in steps]


def test_lines_come_back_and_writing_goes_on(run: Storage) -> None:
    assert read_metrics(run) == []
    for steps in ((1, 2), (3,)):
        with closing(MetricsWriter(run)) as metrics:
            for record in lines(*steps):
                metrics.write(record)
        metrics.close()
    assert read_metrics(run) == lines(1, 2, 3)


def test_a_local_line_is_there_at_once_a_remote_one_after_flush(run: Storage) -> None:
    metrics = MetricsWriter(run)
    metrics.write({"step": 1})
    assert len(read_metrics(run)) == (1 if run.local else 0)
    metrics.flush()
    assert read_metrics(run) == [{"step": 1}]
    metrics.close()


def test_every_line_is_strict_json(run: Storage) -> None:
    values = {"nan": float("nan"), "list": [np.float32(0.5), float("inf")], "tensor": torch.tensor(3), "no": None}
    with closing(MetricsWriter(run)) as metrics:
        metrics.write(values)

    def refused(name: str) -> None:
        raise AssertionError(name)

    record = json.loads(run.read("metrics.jsonl"), parse_constant=refused)
    assert record == {"nan": None, "list": [0.5, None], "tensor": 3, "no": None}


def test_a_half_written_last_line_is_dropped(run: Storage) -> None:
    run.write("metrics.jsonl", b'{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(run) == [{"step": 1}]
    with closing(MetricsWriter(run)) as metrics:
        metrics.write({"step": 2})
    assert read_metrics(run) == [{"step": 1}, {"step": 2}]


def test_truncate_drops_later_steps(run: Storage) -> None:
    run.write("metrics.jsonl", b'{"note": "start"}\n{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step"')
    truncate_metrics(run, 2)
    assert run.read("metrics.jsonl") == b'{"note": "start"}\n{"step": 1}\n{"step": 2}\n'
    truncate_metrics(run, 0)
    assert read_metrics(run) == [{"note": "start"}]


def test_a_damaged_line_is_named(run: Storage) -> None:
    run.write("metrics.jsonl", b'{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(run)


def test_a_full_disk_keeps_the_whole_lines(small_disk: Path) -> None:
    run = Storage.at(small_disk)
    record = {"step": 1, "text": "x" * 10_000}
    metrics = MetricsWriter(run)

    def write_lines() -> None:
        for _ in range(100):
            metrics.write(record)

    with pytest.raises(UserError, match=f"no space left to write {small_disk}/metrics.jsonl"):
        write_lines()
    metrics.close()
    assert run.read("metrics.jsonl").endswith(b"}\n")
    assert 20 <= len(read_metrics(run)) <= 26
