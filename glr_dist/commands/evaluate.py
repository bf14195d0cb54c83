"""The command ``glr-dist evaluate``: one checkpoint as it is, or any number of them under attack."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from glr_dist.commands.completion import complete_attacks
from glr_dist.commands.options import actors, attack_options, attacks_of, data_options, json_option
from glr_dist.commands.terminal import INTERRUPTED, json_line, say, tell
from glr_dist.errors import UserError
from glr_dist.launch.place import PLACE, Place

if TYPE_CHECKING:
    from glr_dist.attacks.attack import Attack
    from glr_dist.robustness.findings import Findings
    from glr_dist.robustness.measurement import Evaluation


@click.command(short_help="Measure checkpoints: accuracy and loss, and what is left of it under attack.")
@click.argument(
    "checkpoints",
    type=Place(lambda text: name_and_place(text)[1]),
    metavar="[NAME=]CHECKPOINT...",
    nargs=-1,
    required=True,
)
@click.option(
    "--attack",
    "attacks",
    metavar="NAME",
    multiple=True,
    help="fgsm, bpda-pgd, intervals, exact, ...; repeatable.",
    shell_complete=complete_attacks,
)
@click.option(
    "--surrogate",
    "surrogates",
    type=PLACE,
    metavar="CHECKPOINT",
    multiple=True,
    help="fgsm, pgd: made on it; repeatable.",
)
@attack_options
@click.option(
    "--seconds-per-sample",
    "seconds",
    type=click.FloatRange(min=0),
    help="exact: most seconds per sample.  [default: 60]",
)
@click.option(
    "--samples", type=PLACE, metavar="DIR", multiple=True, help="Sets that `glr-dist attack` stored; repeatable."
)
@click.option("--corruption", "corruptions", metavar="NAME", multiple=True, help="gaussian, ..., or all; repeatable.")
@click.option("--votes", type=click.IntRange(min=0), default=0, help="Also with noise: the vote of N noisy passes.")
@data_options
@click.option(
    "--workers", type=click.IntRange(min=-1), default=-1, help="Evaluation actors; 0: in this process; -1: all CPUs."
)
@click.option("--generators", type=click.IntRange(min=1), default=1, help="Generation actors, for surrogates.")
@click.option("--out", type=PLACE, metavar="DIR", help="Write report.json, report.md and pictures there.")
@json_option
def evaluate(checkpoints: Sequence[str], as_json: bool, **options: Any) -> None:
    """Measure CHECKPOINTs, each a checkpoint's folder or a run's (its newest checkpoint).

    One of them alone gets its accuracy and loss. With attacks, stored samples or corruptions, or with several checkpoints,
    there is a report; checkpoints with the same NAME= are seeds of one network.
    """
    sizes = {name: options[name] for name in ("steps", "step_size", "restarts", "draws", "queries", "seconds")}
    attacks = attacks_of(options["attacks"], options["epsilons"], sizes)
    plain = _plain(checkpoints, options)
    _refuse_idle(options, plain)
    if plain:
        _measure(checkpoints[0], options, as_json)
        return
    _refuse_taken(options["out"])
    try:
        findings = _findings(checkpoints, attacks, options)
    except KeyboardInterrupt:
        say("interrupted; no report was written")
        sys.exit(INTERRUPTED)
    _show(findings, options["out"], as_json)


def name_and_place(checkpoint: str) -> tuple[str, str]:
    """The two halves of ``[NAME=]CHECKPOINT``, "" for no name; a name has no slash, the query of a URI comes after one."""
    match = re.fullmatch(r"([^=/]+)=(.+)", checkpoint)
    return (match[1], match[2]) if match and not Path(checkpoint).exists() else ("", checkpoint)


def _plain(checkpoints: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Whether nothing was asked for that needs a report."""
    wanted = [options[name] for name in ("attacks", "samples", "corruptions", "surrogates", "out")]
    several = len(checkpoints) > 1 or name_and_place(checkpoints[0])[0]
    return not (any(wanted) or options["count"] is not None or several)


def _refuse_idle(options: Mapping[str, Any], plain: bool) -> None:
    """Refuse options that would change nothing."""
    given = click.get_current_context().get_parameter_source
    for option, idle, why in (
        ("seed", plain and not options["votes"], "nothing is drawn without --votes, --count or a report"),
        ("workers", plain and options["workers"] != 0, "one network without attacks is measured in this process"),
        ("generators", not options["surrogates"], "they make samples on a --surrogate, and there is none"),
    ):
        if idle and given(option) == ParameterSource.COMMANDLINE:
            raise UserError(f"--{option} {options[option]}: {why}; leave it out")


def _measure(checkpoint: str, options: Mapping[str, Any], as_json: bool) -> None:
    from glr_dist.commands.display import show_table
    from glr_dist.robustness.measurement import evaluate as measure

    names = ("dataset", "data_root", "split", "votes", "seed", "trust_model")
    result = measure(checkpoint, **{name: options[name] for name in names}, say=say)
    show_table("Evaluated", _rows(result), to_stderr=as_json)
    if as_json:
        click.echo(json_line({key: value for key, value in dataclasses.asdict(result).items() if value is not None}))


def _rows(result: Evaluation) -> dict[str, Any]:
    """An evaluation as the lines of a table."""
    from glr_dist.commands.display import percent

    rows = {
        "checkpoint": result.checkpoint,
        "data": f"{result.dataset}, {result.split}, {result.n:,} examples",
        "accuracy": percent(result.accuracy),
        f"loss ({result.loss_name})": f"{result.loss:.4f}",
    }
    if result.votes is not None:
        assert result.noisy_loss is not None
        rows[f"accuracy, {result.votes} noisy votes"] = percent(result.noisy_accuracy)
        rows["loss, noisy"] = f"{result.noisy_loss:.4f}"
    return rows | {"params_sha256": f"{result.params_sha256[:12]}..."}


def _findings(checkpoints: Sequence[str], attacks: Sequence[Attack], options: Mapping[str, Any]) -> Findings:
    from glr_dist.commands.display import job_display
    from glr_dist.robustness.evaluation import evaluate_robustness, open_data
    from glr_dist.robustness.selection import Selection
    from glr_dist.robustness.subjects import open_subjects

    pairs = [name_and_place(checkpoint) for checkpoint in checkpoints]
    trusted, note = options["trust_model"], say if options["dataset"] is None else lambda line: None
    data = open_data(pairs[0][1], options["dataset"], options["data_root"], trust_model=trusted, say=say)
    subjects = open_subjects(pairs, data, trust_model=trusted, say=note)
    surrogates = open_subjects(options["surrogates"], data, trust_model=trusted, say=note)
    with actors(options["workers"]) as workers, job_display() as show:
        return evaluate_robustness(
            subjects,
            data,
            attacks=attacks,
            surrogates=surrogates,
            samples=options["samples"],
            corruptions=_corruptions(options["corruptions"]),
            selection=Selection(split=options["split"], count=options["count"], seed=options["seed"]),
            votes=options["votes"],
            seed=options["seed"],
            workers=workers,
            generators=options["generators"],
            say=say,
            show=show,
        )


def _show(findings: Findings, out: str | None, as_json: bool) -> None:
    from glr_dist.robustness.report.build import build_report, write_report
    from glr_dist.robustness.report.terminal import show_report
    from glr_dist.store.storage import Storage

    report = build_report(findings) if out is None else write_report(Storage.at(out), findings)
    show_report(report, to_stderr=as_json)
    if out is not None:
        tell(f"report: {Storage.at(out).folder('report.md')}", err=as_json)
    if as_json:
        click.echo(json.dumps(report, allow_nan=False))


def _corruptions(names: Sequence[str]) -> list[str]:
    from glr_dist.corruptions.corruption import CORRUPTIONS

    every = [name for name in CORRUPTIONS if not name.endswith("-compat")]  # these are others over again
    return list(dict.fromkeys(name for given in names for name in (every if given == "all" else [given])))


def _refuse_taken(out: str | None) -> None:
    """Refuse a folder that holds anything: nothing is ever written over."""
    from glr_dist.store.storage import Storage

    if out is None:
        return
    folder = Storage.at(out)
    held = folder.list()
    if held or (folder.exists("") and folder.local and not folder.path("").is_dir()):
        raise UserError(f"--out {out}: holds something ({', '.join(held[:3]) or 'a file'}); choose a new folder")
