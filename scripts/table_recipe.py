"""What the recipes of published tables do alike: train every network of a table, then show ours beside the published.

A recipe's folder holds a run for every network and seed. Whatever is finished there is kept, whatever was interrupted goes
on, so that a recipe may be called again and again.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from glr_dist.commands.terminal import INTERRUPTED, say
from glr_dist.config import Config, load_config
from glr_dist.errors import UserError
from glr_dist.runs.run import RunStore

PROCESSES = 2
_TOLD = 20  # last lines of a failed training's log

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network to train.

    Attributes:
        name: of the network; those that differ in their seeds alone share it.
        seed: of its run.
        preset: where its config comes from.
        settings: dotted key -> value, in place of the preset's.
    """

    name: str
    seed: int
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The run's folder in the recipe's."""
        return f"{self.name}-seed{self.seed}"

    def config(self, data_root: str) -> Config:
        """Its config, checked.

        Raises:
            UserError: as `glr_dist.config.load_config`.
        """
        fixed = {"data.root": data_root, "engine.workers": 0, "journal": "off", "seed": self.seed}
        return load_config(self.preset, {**self.settings, **fixed})

    def command(self, out: Path, data_root: str) -> list[str]:
        """The arguments of ``glr-dist`` that train it."""
        settings = [part for key, value in self.settings.items() for part in ("--set", f"{key}={value}")]
        where = ["--run-dir", str(out / self.folder), *(["--data-root", data_root] if data_root else [])]
        return ["train", self.preset, *settings, "--seed", str(self.seed), "--workers", "0", "--journal", "off", *where]


def train_all(trainings: Sequence[Training], out: Path, data_root: str, say: Say) -> None:
    """Train what is not trained yet, two at a time, one core each.

    Args:
        trainings: the networks.
        out: the recipe's folder.
        data_root: folder of the data; "": downloaded.
        say: told of every training that begins, and of how many were there already.

    Raises:
        UserError: for a run that was trained otherwise, or a training that failed.
    """
    waiting = [(t.folder, command) for t in trainings if (command := left_to_do(t, out, data_root))]
    say(f"{out}: {len(trainings)} networks, {len(trainings) - len(waiting)} of them trained already")
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PROCESSES) as pool:
        try:
            list(pool.map(lambda item: _run(item[1], out / f"{item[0]}.log", say), waiting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def left_to_do(training: Training, out: Path, data_root: str) -> list[str]:
    """The arguments of ``glr-dist`` that finish a training; [] when it is finished.

    Raises:
        UserError: when its folder holds a run of another config.
    """
    place = out / training.folder
    if not (place / "config.toml").is_file():
        return training.command(out, data_root)
    run, _ = RunStore.at(place)
    wanted = training.config(data_root)
    if _results_of(run.config()) != _results_of(wanted):
        raise UserError(f"{place}: was trained with other settings; delete it, or give another --out")
    if run.steps() and run.checkpoint(run.steps()[-1]).step == wanted.steps:
        return []
    return ["train", "--resume", str(place)]


def cell(found: Mapping[str, Any] | None, published: float | None = None) -> str:
    """A table's cell in percent: mean and standard deviation over the seeds, and what was published.

    Args:
        found: an accuracy of report.json; None: not measured.
        published: in percent; None: there is none.
    """
    if found is None:
        return "-"
    spread = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    beside = "" if published is None else f" ({published:.2f})"
    return f"{100 * found['mean']:.2f}{spread}{beside}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def run_command(command: click.Command) -> None:
    """Run a recipe's command line and end the process, with the exit codes of ``glr-dist``."""
    try:
        command(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        say(f"Error: {error}")
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted; call it again to go on")
        sys.exit(INTERRUPTED)


def _run(command: Sequence[str], log: Path, say: Say) -> None:
    """One training in a process of its own, its lines in a log."""
    say(f"glr-dist {shlex.join(command)}")
    with log.open("ab") as lines:
        done = subprocess.run(
            [sys.executable, "-m", "glr_dist.cli", *command],
            stdout=lines,
            stderr=lines,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        told = "\n".join(log.read_text(errors="replace").splitlines()[-_TOLD:])
        raise UserError(f"glr-dist {shlex.join(command)}: failed with exit code {done.returncode}: {told}")


def _results_of(config: Config) -> Config:
    """A config without what makes no difference to the result: where its data lies, who works, what is kept."""
    data, engine = dataclasses.replace(config.data, root="", cache=""), dataclasses.replace(config.engine, workers=0)
    return dataclasses.replace(config, data=data, engine=engine, journal="off")
