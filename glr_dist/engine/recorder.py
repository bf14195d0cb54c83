"""What a run writes down on the way: its losses in the journal, its figures in metrics.jsonl and TensorBoard's files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from glr_dist.engine.placed import StepResult
from glr_dist.store.events import EventWriter
from glr_dist.store.journal import JournalWriter
from glr_dist.store.journal_file import JournalRow
from glr_dist.store.metrics import MetricsWriter


class Recorder:
    """The files of one run that grow step by step; a context that closes them."""

    def __init__(self, metrics: MetricsWriter, journal: JournalWriter | None, events: EventWriter | None) -> None:
        """Take over the writers of a run; without a journal, losses go nowhere, without events, TensorBoard has none."""
        self._metrics, self._journal, self._events = metrics, journal, events

    def losses(self, step: int, result: StepResult, seed: int) -> None:
        """Keep the losses of a step, counted from 1, of the run of that seed."""
        if self._journal is None or not result.losses:
            return
        rows = [
            JournalRow(
                step=step,
                site=unit.site,
                unit=unit.number,
                seed=unit.journalled_seed(seed),
                rows=losses.shape[1],
                losses=losses,
            )
            for unit, losses in zip(result.units, result.losses, strict=True)
        ]
        self._journal.append(rows)

    def figures(self, line: Mapping[str, Any]) -> None:
        """Keep a line of figures of one step: ``step``, and values by name."""
        self._metrics.write(line)
        if self._events is not None:
            self._events.write(line)

    def evaluation(self, found: Mapping[str, Any]) -> None:
        """Keep the accuracies of a step's checkpoint, found beside the run: a line of its own, whenever it comes."""
        accuracies = {f"evaluation_{name}": value for name, value in found.items() if name.endswith("accuracy")}
        self.figures({"step": found["step"], **accuracies})

    def flush(self) -> None:
        """Return when all of it is on disk, the journal first."""
        for writer in (self._journal, self._metrics, self._events):
            if writer is not None:
                writer.flush()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close; what goes wrong then is told only where nothing else went wrong before."""
        for writer in (self._journal, self._metrics, self._events):
            with suppress(*([] if error is None else [Exception])):
                if writer is not None:
                    writer.close()
