"""TensorBoard event files in `tensorboard/`: the numbers of metrics.jsonl as curves.

They are for looking at; nothing reads them again. On an object store they are written locally first and uploaded whole
at each flush. A resumed run begins a file of its own, which says that later steps in the files before it don't count.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glr_dist.errors import UserError
from glr_dist.store.storage import Storage

FOLDER = "tensorboard"


class EventWriter:
    """Appends to a run's event files; what they say about steps after the ``first_step`` done no longer counts.

    Raises:
        UserError: the tensorboard package is missing.
    """

    def __init__(self, run: Storage, first_step: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._run = run
        self._scratch = None if run.local else tempfile.TemporaryDirectory(prefix="glr_dist_events_")
        self._folder = run.path(FOLDER) if self._scratch is None else Path(self._scratch.name)
        self._closed = False
        _wait_for_a_later_name(run)
        with run.explained(FOLDER, "write"):
            self._writer = SummaryWriter(str(self._folder), purge_step=first_step + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of a line of metrics, one of them ``step``, from 1; what is None is left out."""
        with self._run.explained(FOLDER, "write"):
            for name, value in record.items():
                if name != "step" and value is not None:
                    self._writer.add_scalar(name, value, record["step"])

    def flush(self) -> None:
        """Return when everything is on disk, or in the object store."""
        with self._run.explained(FOLDER, "write"):
            self._writer.flush()
        self._upload()

    def close(self) -> None:
        """Flush and close. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        with self._run.explained(FOLDER, "write"):
            self._writer.close()
        self._upload()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _upload(self) -> None:
        if self._scratch is not None:
            for file in sorted(self._folder.iterdir()):
                self._run.write(f"{FOLDER}/{file.name}", file.read_bytes())


def _wait_for_a_later_name(run: Storage) -> None:
    """Files are read by name, which begins with the second they were made in: not the one of the newest there is."""
    newest = max(run.list(FOLDER), default="")
    until = time.monotonic() + 1.0
    while f"events.out.tfevents.{int(time.time()):010d}." <= newest and time.monotonic() < until:
        time.sleep(0.02)


def require_tensorboard() -> None:
    """Raise UserError, which says what to install, where TensorBoard's package is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"tensorboard = true: needs the tensorboard package ({error}); pip install 'glr-dist[tensorboard]',"
            " or leave --tensorboard out"
        ) from error
