"""The command line: ``glr-dist train``, ``evaluate``, ``data prepare``, ``presets``, and the rooms' own commands.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 130 interrupted (after a checkpoint), 1 anything else.
Whatever is slow to import is imported inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist import __version__
from glr_dist.engine.replay_commands import replay, verify
from glr_dist.errors import UserError
from glr_dist.launch.commands import check, jobs, submit

if TYPE_CHECKING:
    from glr_dist.engine.training import TrainResult

DEFAULT_PRESET = "digits-threshold"
INTERRUPTED = 130
_KEYS = {  # option -> config key
    "data_root": "data.root",
    "workers": "engine.workers",
    "reconstructors": "engine.reconstructors",
    "gpus_per_worker": "engine.gpus_per_worker",
    "method": "method",
    "loss": "loss",
    "seed": "seed",
    "steps": "steps",
    "journal": "journal",
    "tensorboard": "tensorboard",
}


class _Commands(click.Group):
    """A group whose exceptions become exit codes; a UserError is one line, an unforeseen error keeps its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, **(kwargs | {"standalone_mode": False}))
        except click.UsageError as error:
            code = error.exit_code
            message = error.format_message()
            click.echo(message if message.startswith("Usage:") else f"Error: {_one_line(message)}", err=True)
        except UserError as error:
            code = 2
            click.echo(f"Error: {_one_line(str(error))}", err=True)
        except click.Abort:  # Ctrl-C where no command expects it
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glr-dist")
def main() -> None:
    """Train networks from loss values alone: threshold units, 0-1 losses, on any number of workers."""


@main.command(short_help="Train a network.")
@click.argument("preset", metavar="[PRESET|FILE.toml]", required=False)
@click.option("--data-root", metavar="DIR", help="Folder of the data; downloaded when left out.")
@click.option("--workers", type=int, help="Evaluators; 0: in this process, without Ray; -1: all CPUs.")
@click.option("--reconstructors", type=int, help="Reconstructor actors; 0: reconstruct in the driver.")
@click.option("--gpus-per-worker", type=float, help="GPUs of each worker; may be a fraction.")
@click.option("--method", help="glr, bp, bp-noise, straight-through or es.")
@click.option("--loss", help="cross-entropy or zero-one.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--steps", type=int, help="Optimizer steps.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop, with a checkpoint, after so long.")
@click.option("--run-dir", metavar="DIR", help="The run's new folder, or a URI.  [default: runs/PRESET-DATE-TIME]")
@click.option("--resume", "resumed", metavar="RUN", help="Continue this run instead of starting one.")
@click.option("--journal", metavar="on|off|auto", help="Keep every loss; auto: when it takes less than 1 GB.")
@click.option("--trust-model", is_flag=True, help="With --resume: import the model.factory that the run names.")
@click.option("--tensorboard", is_flag=True, default=None, help="Write TensorBoard event files too.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Any config key; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object.")
def train(
    preset: str | None,
    resumed: str | None,
    run_dir: str | None,
    seconds: float | None,
    trust_model: bool,
    settings: Sequence[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network as a preset (`glr-dist presets`) or a TOML file says."""
    overrides = _overrides(options, settings)
    if resumed is not None:
        for name, value in (("PRESET", preset), ("--run-dir", run_dir)):
            if value is not None:
                raise UserError(
                    f"{name} {value}: --resume takes the config and the folder of the run; leave {name} out"
                )
    _import_from_here()
    from glr_dist.engine.progress import progress_display
    from glr_dist.engine.summary import show_table, train_rows
    from glr_dist.engine.training import new_run_name

    run = resumed or run_dir or new_run_name(Path(preset or DEFAULT_PRESET).stem)
    try:
        with progress_display() as show:
            if resumed is None:
                result = _start(preset or DEFAULT_PRESET, overrides, run, seconds, show)
            else:
                result = _continue(resumed, overrides, trust_model, seconds, show)
    except KeyboardInterrupt:
        _say(_how_to_go_on(run))
        sys.exit(INTERRUPTED)
    show_table("Trained", train_rows(result), to_stderr=as_json)
    click.echo(f"run: {result.run}", err=as_json)
    if as_json:
        click.echo(_json(dataclasses.asdict(result)))


@main.command(short_help="Measure a checkpoint's accuracy and loss.")
@click.argument("checkpoint")
@click.option("--dataset", metavar="NAME", help="digits, mnist, fashion-mnist, cifar10, parquet.  [default: the run's]")
@click.option("--data-root", metavar="DIR", help="Folder of the data.  [default: the run's]")
@click.option("--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True)
@click.option("--votes", type=click.IntRange(min=0), default=0, help="Also with noise: the vote of N noisy passes.")
@click.option("--trust-model", is_flag=True, help="Import and run the model.factory that the checkpoint names.")
@click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object.")
def evaluate(
    checkpoint: str,
    dataset: str | None,
    data_root: str | None,
    split: str,
    votes: int,
    trust_model: bool,
    as_json: bool,
) -> None:
    """Measure CHECKPOINT, a checkpoint's folder or a run's (its newest checkpoint)."""
    _import_from_here()
    from glr_dist.engine.evaluation import evaluate as measure
    from glr_dist.engine.summary import evaluation_rows, show_table

    result = measure(
        checkpoint,
        dataset=dataset,
        data_root=None if data_root is None else _absolute(data_root),
        split=split,
        votes=votes,
        trust_model=trust_model,
        say=_say,
    )
    show_table("Evaluated", evaluation_rows(result), to_stderr=as_json)
    if as_json:
        click.echo(_json({key: value for key, value in dataclasses.asdict(result).items() if value is not None}))


@main.group()
def data() -> None:
    """Data sets as folders of Parquet shards."""


@data.command(short_help="Write a data set as Parquet shards.")
@click.argument("source")
@click.argument("out")
@click.option("--data-root", metavar="DIR", default="", help="Folder of a named set's files; downloaded when left out.")
@click.option("--shards", type=int, default=8, show_default=True, help="Training shards.")
def prepare(source: str, out: str, data_root: str, shards: int) -> None:
    """Write SOURCE (digits, mnist, fashion-mnist, cifar10, or a folder with train/CLASS/IMAGE) as shards in OUT."""
    from glr_dist.data.prepare import prepare as write
    from glr_dist.engine.summary import file_size, show_table

    report = write(source, out, root=data_root, shards=shards)
    rows = {
        "examples": "x".join(map(str, report["shape"])),
        "classes": len(report["classes"]),
        **{f"{split} rows": f"{n} in {report['files'][split]} shards" for split, n in report["rows"].items()},
        "size": file_size(report["bytes"]),
        "fingerprint": report["fingerprint"][:12],
    }
    show_table(f"Prepared {report['name']}", rows)
    click.echo(f"train on it: glr-dist train --set data.name=parquet --data-root {shlex.quote(report['out'])}")


@main.command(short_help="List the presets, or print one.")
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the presets; with NAME, print its TOML, to start a file of your own from."""
    from glr_dist.config import preset_names, preset_text
    from glr_dist.engine.summary import show_table

    if name is not None:
        click.echo(preset_text(name), nl=False)
        return
    show_table("Presets", {known: preset_text(known).splitlines()[0].lstrip("# ") for known in preset_names()})


for _command in (replay, verify, submit, jobs, check):
    main.add_command(_command)


def _start(
    preset: str, overrides: Mapping[str, Any], run: str, seconds: float | None, show: Callable[[Any], None]
) -> TrainResult:
    from glr_dist.config import load_config
    from glr_dist.engine.training import train as run_training

    return run_training(config=load_config(preset, overrides), run_dir=run, seconds=seconds, show=show, say=_say)


def _continue(
    run: str, overrides: Mapping[str, Any], trust_model: bool, seconds: float | None, show: Callable[[Any], None]
) -> TrainResult:
    from glr_dist.engine.training import resume

    return resume(run, overrides=overrides, trust_model=trust_model, seconds=seconds, show=show, say=_say)


def _overrides(options: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Config keys from the named options and from ``--set``."""
    from glr_dist.config import override

    found = {_KEYS[option]: value for option, value in options.items() if value is not None}
    for setting in settings:
        key, value = override(setting)
        if key in found:
            raise UserError(f"--set {setting}: {key} is given twice; leave one out")
        found[key] = value
    if found.get("data.root"):
        found["data.root"] = _absolute(found["data.root"])  # the run may be resumed from another folder
    return found


def _import_from_here() -> None:
    """A model.factory may name a module in the current folder, as with ``python -m``."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def _absolute(folder: str) -> str:
    return os.path.abspath(os.path.expanduser(folder)) if folder else ""  # noqa: PTH100,PTH111  Path would keep ".."


def _how_to_go_on(run: str) -> str:
    from glr_dist.store import Storage

    storage = Storage.at(run)
    if storage.parent().name == "checkpoints":  # it went back to a checkpoint
        storage, run = storage.parent().parent(), str(storage.parent().parent())
    if storage.exists("config.toml"):
        place = run if storage.local else str(storage)  # as typed, but never a password
        return f"interrupted; continue with: glr-dist train --resume {shlex.quote(place)}"
    return "interrupted before the run began: there is nothing to resume"


def _say(line: str) -> None:
    click.echo(line, err=True)


def _json(result: Mapping[str, Any]) -> str:
    """One line of strict JSON: numbers that are not finite become null."""
    lost = {key: None for key, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return json.dumps({**result, **lost})


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))


if __name__ == "__main__":
    main()
