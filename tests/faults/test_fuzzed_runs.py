"""Run folders with files cut, swapped, linked, renamed, edited: they open, go on, are audited, or it is said why not."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzed import SEED, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from small_runs import digits, resume_small, train_small

from glr_dist.engine.replay import replay
from glr_dist.engine.verify import verify
from glr_dist.errors import UserError
from glr_dist.runs.network import open_network
from glr_dist.store.checkpoint import checkpoint_steps
from glr_dist.store.storage import Storage

pytestmark = pytest.mark.slow  # continuous integration has time for them

HARMS = ["cut", "flip", "delete", "swap", "link", "loop", "device", "rename", "edit", "empty", "folder"]
EDITS = [(b"0", b"9"), (b'"', b""), (b"=", b"= ="), (b"1", b"-1"), (b"\n", b"\x00"), (b"{", b"[")]
NAMES = [
    "x",
    "..",
    "step-000099",
    "step-000004",
    "\x1b[31mred",
    "a\nb",
    "ünï",
    " ",
    "-rf",
    "config.toml",
    "meta.json",
    "s3:",
]


def stop(progress: Any) -> None:
    if progress.step == 7:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interrupted at step 7 of 12, with checkpoints at 4 and 7; not to be written to."""
    folder = tmp_path_factory.mktemp("fuzzed") / "run"
    with pytest.raises(KeyboardInterrupt):
        train_small(folder, show=stop)
    assert checkpoint_steps(Storage.at(folder)) == [4, 7]
    return folder


def harm(draw: Callable[..., Any], folder: Path) -> str:
    """Do something to one file or folder of a run; says what."""
    every = sorted(path for path in folder.rglob("*"))
    files = [path for path in every if path.is_file() and not path.is_symlink()]
    what = draw(
        st.sampled_from(
            ["cut", "flip", "delete", "swap", "link", "loop", "device", "rename", "edit", "empty", "folder"]
        )
    )
    path = draw(st.sampled_from(files))
    told = f"{what} {path.relative_to(folder)}"
    if what == "cut":
        path.write_bytes(path.read_bytes()[: draw(st.integers(0, path.stat().st_size))])
    elif what == "flip":
        data = bytearray(path.read_bytes())
        if data:
            data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
        path.write_bytes(bytes(data))
    elif what == "swap":
        other = draw(st.sampled_from(files))
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)
    elif what in ("link", "loop", "device", "folder", "delete"):
        path.unlink()
        target = {"link": files[0], "loop": path, "device": Path("/dev/zero")}.get(what)
        if target is not None:
            path.symlink_to(target)
        elif what == "folder":
            path.mkdir()
    elif what == "rename":
        place = draw(st.sampled_from(every))
        name = draw(st.sampled_from(NAMES))
        if name != ".." and not (place.parent / name).exists():
            place.rename(place.parent / name)
    elif what == "edit":
        old, new = draw(
            st.sampled_from([(b"0", b"9"), (b'"', b""), (b"=", b"= ="), (b"1", b"-1"), (b"\n", b"\x00"), (b"{", b"[")])
        )
        path.write_bytes(path.read_bytes().replace(old, new, draw(st.integers(1, 3))))
    else:
        path.write_bytes(b"")
    return told


seen: Counter[str] = Counter()


def test_a_harmed_run_opens_goes_on_and_is_audited_or_it_is_said_why_not(
    run: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    doors: dict[str, Callable[[Path], Any]] = {
        "open": open_network,
        "resume": resume_small,
        "verify": lambda folder: verify(folder, 0.3, data=digits()),
        "replay": lambda folder: replay(folder, data=digits()),
    }

    @fuzzed(60)
    @given(data=st.data(), door=st.sampled_from(list(doors)), times=st.integers(1, 2))
    def fuzz(data: st.DataObject, door: str, times: int) -> None:
        folder = tmp_path / "own"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder)
        done = [harm(data.draw, folder) for _ in range(times)]
        try:
            doors[door](folder)
        except UserError as error:
            refusal = str(error)
        except Exception as error:
            raise AssertionError(f"{done}, then {door}: {type(error).__name__}: {error}") from error
        else:
            refusal = ""
        assert "\n" not in refusal, f"{done}, then {door}: {refusal}"
        seen[f"{door}: {'refused' if refusal else 'done'}"] += 1

    record_property("runs", f"from seed {SEED}")
    fuzz()
    record_property("runs", dict(seen))
    assert sum(seen.values()) >= 60
