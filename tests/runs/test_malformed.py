"""Whatever stands in the place of any value of meta.json or provenance.json: one line, and never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_runs import digits, resume_small, train_small

from glr_dist.engine.driver import Clock
from glr_dist.errors import UserError
from glr_dist.runs.network import open_network
from glr_dist.runs.record import refuse_edited
from glr_dist.runs.run import RunStore
from glr_dist.store import checkpoint as checkpoints

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    3.5,
    1e300,
    10**30,
    "",
    "x",
    "\x1b[2J",
    [],
    [1],
    {},
    {"a": 1},
    [[[]]],
    "custom",
    ...,
]
SEED = random.SystemRandom().randrange(10**6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed") / "run"
    train_small(folder)
    return folder


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*above, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value in one place, or without that place."""
    if not place:
        return None if new is ... else new
    whole = json.loads(json.dumps(value))
    within = whole
    for key in place[:-1]:
        within = within[key]
    if new is ...:
        del within[place[-1]]
    else:
        within[place[-1]] = new
    return whole


def cases(value: Any, count: int) -> Iterator[Any]:
    """Some such copies, other ones every time."""
    every = [(place, new) for place in places(value) for new in VALUES]
    for place, new in random.Random(SEED).sample(every, count):
        yield changed(value, place, new)


def opened(folder: Path) -> None:
    """All that is read of a run before it goes on."""
    run, _ = RunStore.at(folder)
    refuse_edited(run.changes(run.config()), "config.toml")
    run.card()
    newest = run.newest()
    assert newest is not None
    Clock.of(newest)


def test_meta_json(run: Path, tmp_path: Path, record_property: Any) -> None:
    record_property("seed", SEED)
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    file = folder / "checkpoints" / "step-000012" / "meta.json"
    for number, said in enumerate(cases(json.loads(file.read_text()), 400)):
        if isinstance(said, dict):
            said["sha256"] = checkpoints._own_sha256(said)  # as one who knows how would
            file.write_bytes(checkpoints._rendered(said))
        else:
            file.write_text(json.dumps(said))
        with suppress(UserError):
            opened(folder)
        with suppress(UserError):
            open_network(folder, digits())
        if number % 40 == 0:
            with suppress(UserError):
                resume_small(Path(shutil.copytree(folder, tmp_path / f"copy{number}")))


def test_provenance_json(run: Path, tmp_path: Path, record_property: Any) -> None:
    record_property("seed", SEED)
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    file = folder / "provenance.json"
    for number, said in enumerate(cases(json.loads(file.read_text()), 400)):
        file.write_text(json.dumps(said))
        with suppress(UserError):
            opened(folder)
        if number % 40 == 0:
            with suppress(UserError):
                resume_small(Path(shutil.copytree(folder, tmp_path / f"copy{number}")))


@pytest.mark.parametrize("text", ["", "null", "{", "[" * 100_000, "\xff", '{"a": ' * 50_000])
@pytest.mark.parametrize("name", ["provenance.json", "config.toml", "checkpoints/step-000012/meta.json"])
def test_files_that_are_none(name: str, text: str, run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(UserError):
        opened(folder)


def test_a_renamed_checkpoint_is_told(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "checkpoints" / "step-000008").rename(folder / "checkpoints" / "step-000099")
    with pytest.raises(UserError, match="step-000099 says that it is of step 8: it was renamed or changed"):
        resume_small(folder)
