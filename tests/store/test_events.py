"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from glr_dist.errors import UserError
from glr_dist.store.events import EventWriter
from glr_dist.store.storage import Storage


def scalars(place: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [(scalar.step, scalar.value) for scalar in EventAccumulator(str(place)).Reload().Scalars(name)]


def test_what_was_flushed_is_there(folder: Storage, tmp_path: Path) -> None:
    """On a local folder, and on one that only takes whole files."""
    writer = EventWriter(folder, 0)
    writer.write({"step": 1, "loss": 0.5, "validation_loss": None})
    writer.write({"step": 2, "loss": 0.25})
    writer.flush()
    assert scalars(tmp_path / "run" / "tensorboard", "loss") == [(1, 0.5), (2, 0.25)]
    writer.write({"step": 3, "loss": 0.125})
    writer.close()
    writer.close()
    assert scalars(tmp_path / "run" / "tensorboard", "loss") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    with pytest.raises(KeyError):
        scalars(tmp_path / "run" / "tensorboard", "validation_loss")


def test_steps_after_the_checkpoint_dont_count_after_a_resume(folder: Storage, tmp_path: Path) -> None:
    first = EventWriter(folder, 0)
    for step in range(1, 6):
        first.write({"step": step, "loss": 1.0})
    first.close()
    second = EventWriter(folder, 3)
    for step in range(4, 7):
        second.write({"step": step, "loss": 0.5})
    second.close()
    expected = [(1, 1.0), (2, 1.0), (3, 1.0), (4, 0.5), (5, 0.5), (6, 0.5)]
    assert scalars(tmp_path / "run" / "tensorboard", "loss") == expected
    seconds = [name.split(".")[3] for name in folder.list("tensorboard")]
    assert seconds[0] < seconds[1]  # of files made in one second, the tenth would be read before the ninth


def test_a_place_that_takes_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*tensorboard"):
        EventWriter(Storage.at(tmp_path), 0)
