"""The command ``glr-dist attack``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.completion import complete_attacks
from glr_dist.commands.options import actors, attack_options, attacks_of, data_options, json_option
from glr_dist.commands.terminal import INTERRUPTED, say, tell
from glr_dist.launch.place import PLACE

if TYPE_CHECKING:
    from glr_dist.attacks.attack import Attack


@click.command(short_help="Make adversarial samples on a network and store them.")
@click.argument("surrogate", type=PLACE)
@click.option(
    "--attack",
    "name",
    metavar="NAME",
    default="fgsm",
    show_default=True,
    help="fgsm, pgd, bpda-pgd, ...",
    shell_complete=complete_attacks,
)
@attack_options
@data_options
@click.option(
    "--out", type=PLACE, metavar="DIR", help="The set's new folder, or a URI.  [default: attacks/RUN-ATTACK/eps-E]"
)
@click.option("--workers", type=click.IntRange(min=-1), default=-1, help="Actors; 0: in this process; -1: all CPUs.")
@json_option
def attack(
    surrogate: str,
    name: str,
    epsilons: Sequence[float],
    dataset: str | None,
    data_root: str | None,
    split: str,
    count: int | None,
    seed: int,
    trust_model: bool,
    out: str | None,
    workers: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make adversarial samples on SURROGATE, a checkpoint's folder or a run's, usually one of `train --method bp`.

    Writes one set of samples for each --epsilon, for `glr-dist evaluate --samples`.
    """
    from glr_dist.commands.display import job_display, show_table
    from glr_dist.robustness.evaluation import open_data
    from glr_dist.robustness.making import attack_set
    from glr_dist.robustness.selection import Selection
    from glr_dist.robustness.subjects import open_subject

    configs = attacks_of([name], epsilons, settings)
    data = open_data(surrogate, dataset, data_root, trust_model=trust_model, say=say)
    network = open_subject(surrogate, data, trust_model=trust_model)
    selection = Selection(split=split, count=count, seed=seed)
    sets = []
    try:
        with actors(workers) as generators, job_display() as show:
            for config, place in zip(configs, _places(surrogate, out, configs), strict=True):
                made = attack_set(
                    network, data, config, place, selection=selection, seed=seed, workers=generators, say=say, show=show
                )
                sets.append({"out": place, **made})
    except KeyboardInterrupt:
        say("interrupted; the same command makes the sets that are missing")
        sys.exit(INTERRUPTED)
    for made in sets:
        show_table("Attacked", _rows(made), to_stderr=as_json)
    samples = " ".join(f"--samples {shlex.quote(made['out'])}" for made in sets)
    tell(f"evaluate others on them: glr-dist evaluate CHECKPOINT {samples}", err=as_json)
    if as_json:
        click.echo(json.dumps({"sets": [{k: v for k, v in made.items() if k != "files"} for made in sets]}))


def _places(surrogate: str, out: str | None, configs: Sequence[Attack]) -> list[str]:
    """A folder for each size."""
    if out is not None and len(configs) == 1:
        return [out]
    if out is None:
        parts = [part for part in surrogate.rstrip("/").split("/") if part not in ("", ".", "..", "checkpoints")]
        run = parts[-2] if len(parts) > 1 and parts[-1].startswith("step-") else (parts or ["run"])[-1]
        out = f"attacks/{run}-{configs[0].name}"
    return [f"{out.rstrip('/')}/eps-{config.epsilon:g}" for config in configs]


def _rows(made: dict[str, Any]) -> dict[str, Any]:
    count, data = made["count"], made["data"]
    return {
        "samples": made["out"],
        "data": f"{data['name']}, {data['split']}, {count:,} samples",
        "attack": f"{made['attack']['name']}, eps {made['eps']:g}, L-infinity",
        "surrogate": made["surrogate"]["checkpoint"],
        "its accuracy": f"{100 * made['right_before'] / count:.2f}% -> {100 * made['right_after'] / count:.2f}%",
        "without a gradient": made["without_gradient"],
    }
