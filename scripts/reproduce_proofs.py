"""The table of proofs made from nothing: networks trained on their own worst case, and what is proved of them.

Each preset is trained with its seeds, beside controls: the same network trained through a straight-through derivative, a
ReLU network by interval bound propagation as published (Gowal et al., 2018), and the preset that is trained on its worst
pixel flips. On all test images: the curve of what intervals prove over the radii, and at the radii of the published tables
the exact answer, in which every image is proved or broken. BPDA-PGD on the networks themselves stands beside it, on a
seeded choice of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from table_recipe import Say, Training, cell, markdown, run_command, train_all

from glr_dist.attacks.attack import Attack, named_attack
from glr_dist.commands.display import job_display
from glr_dist.commands.options import actors
from glr_dist.commands.terminal import say
from glr_dist.engine.driver import Clock
from glr_dist.errors import UserError
from glr_dist.robustness.evaluation import evaluate_robustness, open_data
from glr_dist.robustness.report.build import write_report
from glr_dist.robustness.selection import Selection
from glr_dist.robustness.subjects import open_subjects
from glr_dist.runs.run import RunStore
from glr_dist.store.places import absolute
from glr_dist.store.storage import Storage

CLOSER = 1000  # images that BPDA-PGD is given
EXACT_SECONDS = 60.0  # per image
CURVE = {"mnist": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35), "fashion-mnist": (0.025, 0.05, 0.1, 0.15)}
DECIDED = {"mnist": (0.1, 0.2, 0.3), "fashion-mnist": (0.1,)}
_OTHER = ((0.05, 0.1), (0.1,))  # of any other data set


@dataclass(frozen=True, kw_only=True)
class Network:
    """A row of the table.

    Attributes:
        title: what it is.
        preset: where its config comes from.
        settings: in place of the preset's.
        exact: whether the program can decide what intervals leave: it knows one threshold for each pixel.
        attack: on the network itself; ReLUs have a gradient of their own.
    """

    title: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    attack: str = "bpda-pgd"


RELU = {"method": "bp", "model.activation": "relu", "model.input_threshold": 0.0, "estimator.scheme": "layerwise"}
NETWORKS = {
    "certified": Network(title="`mnist-certified`", preset="mnist-certified"),
    "certified-small": Network(title="`mnist-certified-small`", preset="mnist-certified-small"),
    "fashion": Network(title="`fashion-certified`", preset="fashion-certified", exact=False),
    "straight-through": Network(
        title="control: `mnist-certified` straight-through",
        preset="mnist-certified",
        settings={"method": "straight-through"},
    ),
    "relu": Network(
        title="control: ReLU, interval bound propagation",
        preset="mnist-certified",
        settings=RELU,
        exact=False,
        attack="pgd",
    ),
    "worst-flips": Network(title="control: `mnist-worst-flips`", preset="mnist-worst-flips"),
}


def trainings(names: Sequence[str], seeds: Sequence[int], common: Mapping[str, Any]) -> list[Training]:
    """What is trained, seed by seed; ``common``: settings of every network, in place of its own."""
    return [
        Training(name=name, seed=seed, preset=NETWORKS[name].preset, settings={**NETWORKS[name].settings, **common})
        for seed in seeds
        for name in names
    ]


def measure(
    of: Sequence[Training],
    out: Path,
    data_root: str,
    attacks: Sequence[Attack],
    where: str,
    workers: int,
    count: int | None,
) -> dict[str, Any]:
    """Evaluate networks of one data set and write a report beside them: the content of report.json.

    Args:
        of: what was trained.
        out: the recipe's folder.
        data_root: folder of the data; "": downloaded.
        attacks: proofs and attacks.
        where: the report's folder in ``out``.
        workers: actors; 0: in this process, -1: as many as there is room for.
        count: images, chosen by seed; None: all.
    """
    data = open_data(out / of[0].folder, data_root=data_root or None)
    with actors(workers) as room, job_display() as show:
        findings = evaluate_robustness(
            open_subjects([(training.name, out / training.folder) for training in of], data),
            data,
            attacks=attacks,
            selection=Selection(count=count),
            workers=room,
            say=say,
            show=show,
        )
    return write_report(Storage.at(out / where), findings)


def reproduce(
    out: Path,
    data_root: str,
    names: Sequence[str],
    seeds: Sequence[int],
    tell: Say,
    *,
    common: Mapping[str, Any] | None = None,
    closer: int = CLOSER,
    workers: int = -1,
    count: int | None = None,
) -> str:
    """Train, prove and lay out the tables.

    Args:
        out: the recipe's folder.
        data_root: folder of the data; "": downloaded.
        names: of NETWORKS.
        seeds: of every network.
        tell: told what is done.
        common: settings of every network, in place of its own.
        closer: images that BPDA-PGD is given; 0: it is left out.
        workers: evaluation actors; 0: in this process, -1: as many as there is room for.
        count: images to prove; None: all.
    """
    every = trainings(names, seeds, common or {})
    train_all(every, out, data_root, tell)
    parts = []
    sets = dict.fromkeys(training.config(data_root).data.name for training in every)
    for data in sets:
        mine = [training for training in every if training.config(data_root).data.name == data]
        curve, decided = CURVE.get(data, _OTHER[0]), DECIDED.get(data, _OTHER[1])
        tell(f"{out}: proving {len(mine)} networks on {data}")
        bounds = [named_attack("intervals", epsilon=size) for size in curve]
        exact = [named_attack("exact", epsilon=size, seconds=EXACT_SECONDS) for size in decided]
        whole = any(NETWORKS[training.name].exact for training in mine)
        report = measure(mine, out, data_root, [*bounds, *(exact if whole else [])], f"report-{data}", workers, count)
        near = []
        for attack in ("bpda-pgd", "pgd") if closer else ():
            of = [training for training in mine if NETWORKS[training.name].attack == attack]
            tried = [named_attack(attack, epsilon=size) for size in decided]
            try:
                near += [measure(of, out, data_root, tried, f"report-{data}-{attack}", workers, closer)] if of else []
            except UserError as error:  # such as of ReLUs that are all dead, which have no gradient
                tell(f"not attacked: {error}")
        parts.append(table(data, report, near, _facts(mine, out), curve, decided))
    return "\n".join(parts)


def table(
    data: str,
    report: Mapping[str, Any],
    near: Sequence[Mapping[str, Any]],
    facts: Mapping[str, tuple[str, str]],
    curve: Sequence[float],
    decided: Sequence[float],
) -> str:
    """A data set's networks: clean, what is proved and what is right under attack at some radii, and the curve.

    Args:
        data: its name.
        report: of the proofs.
        near: of the attacks; []: none was made.
        facts: by network, seconds of training and the SHA-256 of the parameters.
        curve: the radii at which intervals proved.
        decided: those at which every image was decided.
    """
    rows, lines = [], []
    for model in report["models"]:
        name = model["model"]
        title = f"{NETWORKS[name].title} ({model['clean']['seeds']})"
        worst = {entry["epsilon"]: entry for entry in report["worst"] if entry["model"] == name}
        attacked = {line["epsilon"]: line for part in near for line in part["lines"] if line["model"] == name}
        cells = [_proved(worst[size]) + f" / {cell(attacked.get(size))}" for size in decided]
        rows.append([title, cell(model["clean"]), *cells, *facts[name]])
        lines.append([title, cell(model["clean"]), *(_share(worst[size]["intervals"]) for size in curve)])
    conditions = report["conditions"]
    about = (
        f"{data}, {conditions['data']['split']} split, {conditions['samples']} images, in %: proved (by intervals alone;"
        " undecided, where there are any) / right under BPDA-PGD, of ReLUs PGD"
        + (f", on {near[0]['conditions']['samples']} images chosen by seed." if near else " (not measured).")
    )
    header = ["network (seeds)", "clean", *(f"{size:g}" for size in decided), "seconds of training", "SHA-256"]
    second = ["proved by intervals at", "clean", *(f"{size:g}" for size in curve)]
    return "\n\n".join([about, markdown(header, rows), markdown(second, lines)]) + "\n"


def _proved(entry: Mapping[str, Any]) -> str:
    left = f"; {_share(entry['undecided'])} undecided" if entry["undecided"] else ""
    return f"{cell(entry['exact'])} ({_share(entry['intervals'])}{left})"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _facts(of: Sequence[Training], out: Path) -> dict[str, tuple[str, str]]:
    """By network: the seconds that its trainings took, and the first digits of their parameters' SHA-256."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for training in of:
        run, _ = RunStore.at(out / training.folder)
        checkpoint = run.checkpoint(run.steps()[-1])
        seconds, prints = found.setdefault(training.name, ([], []))
        seconds.append(f"{Clock.of(checkpoint).seconds:.0f}")
        prints.append(str(checkpoint.meta["params_sha256"])[:12])
    return {name: (", ".join(seconds), ", ".join(prints)) for name, (seconds, prints) in found.items()}


@click.command()
@click.option("--data-root", metavar="DIR", default="", help="Folder of the data; downloaded when left out.")
@click.option(
    "--out", metavar="DIR", default="runs/reproduce-proofs", show_default=True, help="Runs, reports, table.md."
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Of every network: 0, 1, ...")
@click.option(
    "--network", "names", type=click.Choice(list(NETWORKS)), multiple=True, help="Those alone; repeatable; all of them."
)
@click.option(
    "--closer",
    type=click.IntRange(min=0),
    default=CLOSER,
    show_default=True,
    help="Images that BPDA-PGD is given; 0: it is left out.",
)
@click.option("--workers", type=int, default=-1, show_default=True, help="Actors that prove; 0: in this process.")
def main(data_root: str, out: str, seeds: int, names: tuple[str, ...], closer: int, workers: int) -> None:
    """Make the table of proofs from nothing; what is in --out already is not trained again."""
    chosen = names or tuple(NETWORKS)
    tables = reproduce(Path(out), absolute(data_root), chosen, range(seeds), say, closer=closer, workers=workers)
    Path(out, "table.md").write_text(tables, encoding="utf-8")
    click.echo(tables)


if __name__ == "__main__":
    run_command(main)
