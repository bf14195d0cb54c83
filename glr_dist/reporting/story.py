"""What a run's folder tells of the run, read and put in order: settings, figures step by step, what it came to."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.config import Config
from glr_dist.errors import UserError
from glr_dist.runs.record import fixed_values
from glr_dist.runs.result import read_result
from glr_dist.runs.run import CONFIG, RunStore
from glr_dist.store.evaluations import read_evaluations
from glr_dist.store.local import LOCK
from glr_dist.store.metrics import NAME as METRICS
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

_LOOKS = ("validate_every", "checkpoint_every", "journal", "tensorboard")  # keys that change no result
_QUIET_SECONDS = 60.0  # a run whose metrics have been still for longer is taken for one that has stopped
_DEPTH = 4  # folders below which no runs are looked for
_PARTS = 16  # of a run, for its speed

Series = tuple[NDArray[np.int64], NDArray[np.float64]]  # steps [T], values [T]


@dataclass(frozen=True, kw_only=True)
class Story:
    """One run.

    Attributes:
        run: its folder.
        config: its settings.
        lines: of metrics.jsonl.
        result: of result.json; None: it hasn't ended yet.
        evaluations: what was found of checkpoints beside the run.
    """

    run: RunStore
    config: Config
    lines: Sequence[Mapping[str, Any]] = field(repr=False)
    result: Mapping[str, Any] | None = field(repr=False)
    evaluations: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def name(self) -> str:
        """Its folder's own name."""
        return self.run.folder.name

    @property
    def settings(self) -> dict[str, Any]:
        """What defines its result, by dotted key, and the workers, who decide its speed."""
        return fixed_values(self.config) | {"engine.workers": self.config.engine.workers}

    @property
    def kind(self) -> str:
        """The same for runs that differ in the seed alone."""
        free = ("seed", "engine.workers", *_LOOKS)
        return json.dumps({k: v for k, v in self.settings.items() if k not in free}, sort_keys=True)

    @property
    def steps(self) -> int:
        """That it has done."""
        if self.result is not None:
            return int(self.result["steps"])
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def state(self) -> str:
        """finished, ended by SECONDS|PATIENCE|CALLBACK, at work, or stopped on the way."""
        if self.result is not None:
            by = self.result["ended_by"]
            return "finished" if by == "steps" else f"ended by {by}"
        folder = self.run.folder
        if folder.hidden(LOCK) and folder.local and folder.exists(METRICS):
            quiet = time.time() - folder.path(METRICS).stat().st_mtime
            return "at work" if quiet < _QUIET_SECONDS else "stopped"
        return "finished" if self.steps >= self.config.steps else "stopped"

    def names(self) -> list[str]:
        """Of all series, as they first appear."""
        return list(dict.fromkeys(key for line in self.lines for key in line if key != "step"))

    def series(self, name: str) -> Series:
        """A figure of metrics.jsonl over the steps; where it was not measured, or is not finite, there is no point."""
        pairs = [(line["step"], line[name]) for line in self.lines if isinstance(line.get(name), int | float)]
        return np.array([s for s, _ in pairs], np.int64), np.array([value for _, value in pairs], np.float64)

    def rate(self) -> Series:
        """Noisy forward passes a second, between lines of metrics some steps apart."""
        (steps, seconds), (_, passes) = self.series("seconds"), self.series("noisy_forwards")
        if len(steps) < 2 or not passes.any():
            return steps[:0], seconds[:0]
        picked = np.unique(np.linspace(0, len(steps) - 1, _PARTS).astype(int))
        gone = np.diff(seconds[picked])
        whole = gone > 0  # a resumed run's clock may stand still between two lines
        return steps[picked][1:][whole], (np.diff(passes[picked])[whole] / gone[whole]).astype(np.float64)

    def accuracy(self, split: str) -> Mapping[str, Any] | None:
        """What its last network reached on a split, as result.json has it; None: not known."""
        found = (self.result or {}).get(split)
        if found is not None:
            return dict(found)
        validations = self.series("validation_accuracy")[1]
        return {"accuracy": float(validations[-1])} if split == "validation" and len(validations) else None


def read_story(place: str | Path) -> Story:
    """A run's story from its folder, or a checkpoint's.

    Raises:
        UserError: it is no run, or what was written there is damaged.
    """
    run, _ = RunStore.at(place)
    return Story(
        run=run,
        config=run.config(),
        lines=_in_order(read_metrics(run.folder)),
        result=read_result(run.folder),
        evaluations=read_evaluations(run.folder),
    )


def read_stories(places: Sequence[str | Path]) -> list[Story]:
    """The stories of some runs; UserError also where one is given twice."""
    stories = [read_story(place) for place in places]
    for story in stories:
        if sum(str(other.run) == str(story.run) for other in stories) > 1:
            raise UserError(f"RUN {story.run}: is given twice; leave one out")
    return stories


def runs_below(folder: Storage, depth: int = _DEPTH) -> Iterator[str]:
    """The places of all runs in a folder, or below it."""
    names = folder.list()
    if CONFIG in names:
        yield folder.uri
    elif depth:
        for name in names:
            if folder.local and not folder.path(name).is_dir():
                continue
            yield from runs_below(folder.folder(name), depth - 1)


def differences(stories: Sequence[Story]) -> dict[str, list[Any]]:
    """The settings in which runs differ: key -> its value in each."""
    settings = [story.settings for story in stories]
    keys = dict.fromkeys(key for each in settings for key in each)
    found = {key: [each.get(key) for each in settings] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seeds alone."""

    name: str
    stories: Sequence[Story]

    def curve(self, series: str) -> Curve:
        """A figure over the steps, averaged over the runs that have it."""
        return Curve.of([found for story in self.stories if len((found := story.series(series))[0])])


def grouped(stories: Sequence[Story]) -> list[Group]:
    """Runs by kind, each named by what tells it from the others, else by its first run."""
    kinds: dict[str, list[Story]] = {}
    for story in stories:
        kinds.setdefault(story.kind, []).append(story)
    members = list(kinds.values())
    telling = [key for key in differences([each[0] for each in members]) if key not in ("seed", "engine.workers")]
    names = [_name(each, telling) for each in members]
    return [
        Group(name=name if names.count(name) == 1 else each[0].name, stories=each)
        for name, each in zip(names, members, strict=True)
    ]


def _name(stories: Sequence[Story], telling: Sequence[str]) -> str:
    """A short one: where one key tells or two, these; else what the runs' own names have in common."""
    if 0 < len(telling) <= 2:
        settings = stories[0].settings
        return ", ".join(f"{key.rpartition('.')[2]} {_short(settings.get(key))}" for key in telling)
    if len(stories) == 1:
        return stories[0].name
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*(story.name for story in stories), strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_. ") or stories[0].name


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The mean of S curves at the steps that all of them have, and half the width of its 95% interval.

    Attributes:
        steps: [T].
        mean: [T].
        half: [T]; None: there is one curve alone.
    """

    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    half: NDArray[np.float64] | None
    seeds: int

    @classmethod
    def of(cls, series: Sequence[Series]) -> Curve:
        """The mean of some series; of none, an empty one."""
        from glr_dist.core.intervals import student

        if not series:
            return cls(steps=np.empty(0, np.int64), mean=np.empty(0), half=None, seeds=0)
        tables = [dict(zip(steps.tolist(), values.tolist(), strict=True)) for steps, values in series]
        shared = sorted(set.intersection(*(set(table) for table in tables)))
        values = np.array([[table[step] for step in shared] for table in tables])
        half = np.array([student(column.tolist()) for column in values.T]) if len(series) > 1 else None
        return cls(steps=np.array(shared, np.int64), mean=values.mean(0), half=half, seeds=len(series))

    def thinned(self, bins: int) -> Curve:
        """With the means of neighbours where there are more points than so many; for noisy figures such as losses."""
        if len(self.steps) <= bins:
            return self
        parts = np.array_split(np.arange(len(self.steps)), bins)

        def means(values: NDArray[Any]) -> NDArray[np.float64]:
            return np.array([values[part].mean() for part in parts])

        half = None if self.half is None else means(self.half)
        return dataclasses.replace(self, steps=means(self.steps).astype(np.int64), mean=means(self.mean), half=half)


def _in_order(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One line a step: what was found later of a checkpoint is put to its step."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in lines:
        if isinstance(line.get("step"), int):
            by_step.setdefault(line["step"], {}).update(line)
    return [by_step[step] for step in sorted(by_step)]
