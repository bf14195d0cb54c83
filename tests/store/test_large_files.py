"""Small files that ask for gigabytes, files that are none, links to another's: refused before anything is taken."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_runs import contents, digits, resume_small, train_small

from glr_dist.config import load_config
from glr_dist.engine.replay import replay
from glr_dist.errors import UserError
from glr_dist.runs.network import open_network
from glr_dist.store.journal import JournalError, JournalReader
from glr_dist.store.journal_file import FLOATS, FOLDER
from glr_dist.store.storage import Storage
from glr_dist.store.training_file import load_training


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_small(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run with checkpoints at 4, 8 and 12, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def peak(work: Callable[[], Any]) -> int:
    """Bytes by which the largest memory of this process grew meanwhile."""

    def largest() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    Path("/proc/self/clear_refs").write_text("5")
    before = largest()
    work()
    return largest() - before


# --- what asks for much ---


def journal_of(run: Path, rows: int, losses: Any, copies: int, examples: int) -> None:
    """A journal of one step whose rows all say the same, with the hash that it should have."""
    small = {"step": pa.int64(), "site": pa.int32(), "unit": pa.int32(), "seed": pa.uint64()}
    columns = {name: pa.array(np.ones(rows), kind) for name, kind in small.items()}
    columns |= {
        "rows": pa.array(np.full(rows, examples), pa.int32()),
        "copies": pa.array(np.full(rows, copies), pa.int32()),
    }
    sink = pa.BufferOutputStream()
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    table = pa.table(columns, schema=schema).append_column(pa.field("losses", losses.type, nullable=False), losses)
    pq.write_table(table, sink, compression="zstd", use_dictionary=False)
    data = sink.getvalue().to_pybytes()
    shutil.rmtree(run / FOLDER)
    (run / FOLDER).mkdir()
    name = f"steps-00000001-00000012-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    (run / FOLDER / name).write_bytes(data)
    assert len(data) < 5_000_000


def much_in_floats(run: Path) -> None:
    size = 40_000_000
    values = pa.ListArray.from_arrays(
        pa.array([0, size], pa.int32()), pa.array(np.zeros(size, np.float32)), type=FLOATS
    )
    journal_of(run, 1, values, size // 8, 8)


def much_in_rows(run: Path) -> None:
    rows = 8_000_000
    journal_of(run, rows, pa.array(np.full(rows, b"\0"), pa.binary()), 1, 8)


def much_in_a_shape(run: Path) -> None:
    journal_of(run, 1, pa.array([b"\0"], pa.binary()), 500_000_000, 8)


@pytest.mark.parametrize(
    ("harm", "message"),
    [(much_in_floats, "would take"), (much_in_rows, "would take"), (much_in_a_shape, "a row of shape")],
)
def test_a_journal_that_asks_for_much_is_refused(harm: Callable[[Path], None], message: str, run: Path) -> None:
    harm(run)

    def read() -> None:
        with pytest.raises(JournalError, match=rf"journal file .* is none that this program wrote: .*{message}"):
            replay(run, data=digits())
        with pytest.raises(JournalError, match=message):
            JournalReader(Storage.at(run)).read(1)

    assert peak(read) < 60e6


def compressed(state: dict[str, Any]) -> bytes:
    """As `torch.save` writes it, but packed."""
    buffer, packed = io.BytesIO(), io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    """A file whose values are pickled so."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def plain(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "compressed": lambda: compressed({"optimizer": torch.zeros(20_000_000)}),
    "bytearray": lambda: with_pickle(b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R."),
    "repeated": lambda: plain({"optimizer": {"state": [torch.zeros(1).expand(10**10)]}}),
    "no table": lambda: plain([1, 2]),
    "no archive": lambda: b"\x80\x02}.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_training_state_that_torch_save_does_not_write_is_refused(name: str) -> None:
    data = BOMBS[name]()

    def read() -> None:
        with pytest.raises((ValueError, zipfile.BadZipFile)):
            load_training(data)

    assert peak(read) < 60e6


def test_plain_training_state_is_read() -> None:
    state = {
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(3, 4)}},
            "param_groups": [{"lr": 0.1}],
        }
    }
    loaded = load_training(plain(state))
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], torch.ones(3, 4))
    assert loaded["optimizer"]["param_groups"] == [{"lr": 0.1}]


def test_an_evaluation_does_not_look_at_the_optimizer(run: Path) -> None:
    (run / "checkpoints" / "step-000012" / "training.pt").write_bytes(b"nothing that can be read")
    assert open_network(run, digits()).step == 12


# --- what is no file ---


@pytest.mark.parametrize("name", ["config.toml", "provenance.json", "checkpoints/step-000012/meta.json"])
def test_a_device_or_a_pipe_is_not_read(name: str, run: Path) -> None:
    (run / name).unlink()
    (run / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is no regular file"):
        resume_small(run)
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(UserError, match="it is no regular file"):
        resume_small(run)


def test_a_config_of_gigabytes_is_not_read(run: Path) -> None:
    with (run / "config.toml").open("ab") as file:
        file.truncate(5 * 10**9)  # of which the disk stores nothing
    with pytest.raises(UserError, match=r"config.toml has 5,000,000,000 bytes, and should have 16,777,216 at most"):
        resume_small(run)
    with pytest.raises(UserError, match="no such file"):
        load_config("/dev/zero.toml")


# --- what is another's ---


@pytest.mark.parametrize("name", ["checkpoints", "journal"])
def test_what_lies_behind_a_link_is_not_deleted(name: str, finished: Path, run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(finished, tmp_path / "other"))
    shutil.rmtree(run / name)
    (run / name).symlink_to(other / name)
    (other / name / ".tmp-half-written").write_text("by its own writer")
    before = contents(other)
    with pytest.raises(
        UserError, match=f"cannot delete .*: .*{name} is a link, and what lies behind it may be another's"
    ):
        resume_small(run / "checkpoints" / "step-000004")
    assert contents(other) == before
