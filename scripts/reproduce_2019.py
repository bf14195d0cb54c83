"""The table of the 2019 paper (Xiao, Peng, Hong, Ke and Yang) made from nothing, ours beside the published.

196-20-10 networks on MNIST halved to 14x14, the official test split, no noise at prediction. FGSM and PGD by transfer from
a 196-300-100-10 ReLU network that back-propagation trained as the paper did, from another seed of it, and from one
trained harder: how much an attack transfers depends on that, so each is named with its own accuracy. Both denominators:
all test images, and those that the surrogate gets right, as published.

Controls: back-propagation by the paper's own recipe and by ours, with the same noise, straight through the threshold
units, on inputs binarised at 0.5; and for the network trained on adversarial samples (of a surrogate of its own, another
seed), back-propagation on the very same samples.

Beyond the paper: BPDA-PGD on the networks themselves and the exact worst case, on a seeded choice of test images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from table_recipe import Say, Training, cell, markdown, run_command, train_all

from glr_dist.attacks.attack import Attack, named_attack
from glr_dist.commands.display import job_display
from glr_dist.commands.options import actors
from glr_dist.commands.terminal import say
from glr_dist.robustness.evaluation import evaluate_robustness, open_data
from glr_dist.robustness.report.build import write_report
from glr_dist.robustness.selection import Selection
from glr_dist.robustness.subjects import open_subjects
from glr_dist.store.places import absolute
from glr_dist.store.storage import Storage

THRESHOLD, ZERO_ONE = "mnist-2019-threshold", "mnist-2019-zero-one"
SURROGATE, ADVERSARIAL = "mnist-2019-surrogate", "mnist-2019-adversarial"
EPSILON = 0.1  # that of the published table
CLOSER = 1000  # images for the attacks that take long
EXACT_SECONDS = 10.0  # per image

HARDER = {"optimizer.name": "adam", "optimizer.options": {}, "schedule.name": "linear", "steps": 4700}
SURROGATES = (  # their seeds are apart from those of the networks under test
    Training(name="surrogate", seed=1000, preset=SURROGATE),
    Training(name="surrogate", seed=1001, preset=SURROGATE),
    Training(name="surrogate-harder", seed=1000, preset=SURROGATE, settings=HARDER),
)
OWN = Training(name="surrogate", seed=1002, preset=SURROGATE)  # its samples are trained on, never attacked with

BP = {"method": "bp", "model.activation": "relu"}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A row of the table.

    Attributes:
        title: what it is.
        preset: where its config comes from; ADVERSARIAL: trained on samples of the surrogate OWN.
        settings: in place of the preset's.
        published: clean and under FGSM of size 0.1, in percent, on the images that the surrogate gets right; from the
            authors' weights.
    """

    title: str
    preset: str = THRESHOLD
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[float | None, float | None] = (None, None)


NETWORKS = {
    "bp-2019": Network(
        title="BP, ReLU, as published", preset=SURROGATE, settings={"model.hidden": [20]}, published=(98.8, 28.3)
    ),
    "glr": Network(title="GLR, threshold, cross-entropy", published=(94.6, 51.8)),
    "glr-zero-one": Network(title="GLR, threshold, 0-1 loss", preset=ZERO_ONE, published=(86.8, 55.7)),
    "glr-plain": Network(title="GLR, cross-entropy, no noise on the inputs", settings={"augment.jitter": 0.0}),
    "bp": Network(title="BP, ReLU, our optimizer", settings={**BP, "augment.jitter": 0.0}),
    "bp-jitter": Network(title="BP, ReLU, noise on the inputs", settings=BP),
    "bp-noise": Network(
        title="BP, sigmoid, all the same noise", settings={"method": "bp-noise", "model.activation": "sigmoid"}
    ),
    "straight-through": Network(title="straight-through, threshold", settings={"method": "straight-through"}),
    "bp-binarised": Network(
        title="BP, ReLU, inputs binarised at 0.5", settings={**BP, "augment.jitter": 0.0, "model.input_threshold": 0.5}
    ),
    "glr-adversarial": Network(title="GLR, threshold, 50 hidden, adversarial samples", preset=ADVERSARIAL),
    "bp-adversarial": Network(title="BP, ReLU, 50 hidden, adversarial samples", preset=ADVERSARIAL, settings=BP),
}


def trainings(seeds: int, out: Path, common: Mapping[str, Any]) -> tuple[list[Training], list[Training]]:
    """The surrogates, those that attack first, and the networks under test, seed by seed.

    Args:
        seeds: 0, 1, ... of every network under test.
        out: the recipe's folder.
        common: settings of every network, in place of its own.
    """
    own = {"augment.surrogate": absolute(str(out / OWN.folder))}
    tested = [
        Training(
            name=name,
            seed=seed,
            preset=network.preset,
            settings={**network.settings, **(own if network.preset == ADVERSARIAL else {})},
        )
        for seed in range(seeds)
        for name, network in NETWORKS.items()
    ]
    first, second = (
        [replace(t, settings={**t.settings, **common}) for t in part] for part in ([*SURROGATES, OWN], tested)
    )
    return first, second


def measure(
    tested: Sequence[Training],
    out: Path,
    data_root: str,
    selection: Selection,
    attacks: Sequence[Attack],
    report: str,
    workers: int,
) -> dict[str, Any]:
    """Evaluate what was trained and write a report beside it.

    Args:
        tested: networks under test.
        out: the recipe's folder.
        data_root: folder of the data; "": downloaded.
        selection: which images.
        attacks: those that follow a gradient are made on SURROGATES.
        report: its folder in ``out``.
        workers: actors; 0: in this process, -1: as many as there is room for.

    Returns:
        The content of report.json.
    """
    data = open_data(out / tested[0].folder, data_root=data_root or None)
    transferred = any(attack.knowledge == "gradient" for attack in attacks)
    attackers = [(training.folder, out / training.folder) for training in SURROGATES if transferred]
    with actors(workers) as room, job_display() as show:
        findings = evaluate_robustness(
            open_subjects([(training.name, out / training.folder) for training in tested], data),
            data,
            attacks=attacks,
            surrogates=open_subjects(attackers, data),
            selection=selection,
            workers=room,
            say=say,
            show=show,
        )
    return write_report(Storage.at(out / report), findings)


def transfer_table(report: Mapping[str, Any]) -> str:
    """The published columns, ours beside the published, on the images that the first surrogate gets right and on all."""
    header = ["network (seeds)", "clean", "FGSM 0.1", "FGSM 0.2", "random signs 0.1", "clean, all", "FGSM 0.1, all"]
    rows = []
    for model in report["models"]:
        name, published = model["model"], NETWORKS[model["model"]].published
        clean, fgsm, larger = (_attack(report, name, *key) for key in (("none", 0.0), ("fgsm", 0.1), ("fgsm", 0.2)))
        control = _attack(report, name, "random-signs", EPSILON)
        right = (_right(clean, published[0]), _right(fgsm, published[1]), _right(larger), _right(control))
        rows.append(
            [f"{NETWORKS[name].title} ({model['clean']['seeds']})", *right, cell(clean["all"]), cell(fgsm["all"])]
        )
    return markdown(header, rows)


def beyond_table(report: Mapping[str, Any], closer: Mapping[str, Any]) -> str:
    """The other surrogates, and the attacks on the networks themselves up to the exact worst case, all of size 0.1."""
    header = [
        "network",
        "FGSM, 2nd surrogate",
        "FGSM, harder surrogate",
        "PGD, worst of all",
        "random",
        "BPDA-PGD",
        "exact",
    ]
    rows = []
    for name in (model["model"] for model in report["models"]):
        others = [_right(_attack(report, name, "fgsm", EPSILON, number)) for number in (1, 2)]
        (pgd,) = (
            line
            for line in report["lines"]
            if (line["model"], line["attack"], line["epsilon"]) == (name, "pgd", EPSILON)
        )
        found = {line["attack"]: line for line in closer["lines"] if line["model"] == name}
        rows.append(
            [
                NETWORKS[name].title,
                *others,
                cell(pgd),
                *(cell(found.get(a)) for a in ("random-signs", "bpda-pgd", "exact")),
            ]
        )
    return markdown(header, rows)


def _attack(report: Mapping[str, Any], name: str, attack: str, epsilon: float, surrogate: int = 0) -> Mapping[str, Any]:
    """A network's row of one attack; for those made on surrogates, on that of the number."""
    label = report["surrogates"][surrogate]["surrogate"]
    row: Mapping[str, Any]
    (row,) = (
        row
        for row in report["attacks"]
        if (row["model"], row["attack"], row["epsilon"]) == (name, attack, epsilon)
        and (row["surrogate"] is None or row["surrogate"]["name"] == label)
    )
    return row


def _right(row: Mapping[str, Any], published: float | None = None) -> str:
    """A cell over the images that the row's surrogate gets right, without one those of the first surrogate."""
    return cell(row["surrogate_right"][0], published)


def explained(report: Mapping[str, Any], closer: Mapping[str, Any]) -> str:
    """Both tables, with what they are about."""
    names = [surrogate["surrogate"] for surrogate in report["surrogates"]]
    images = f"{report['conditions']['data']['split']} split, {report['conditions']['samples']} images"
    first = (
        f"Accuracy in % on those of the {images} that {names[0]} gets right (published), FGSM made on it; columns"
        ' "all": on all images. Mean ± standard deviation over the seeds.'
    )
    about = [f"* {_about(surrogate)}" for surrogate in report["surrogates"]]
    second = (
        f"All of size {EPSILON}. FGSM made on {names[1]} and on {names[2]}, images that each gets right. PGD of 40 steps:"
        " all images, right under the samples of all three. The last three columns:"
        f" {closer['conditions']['samples']} images chosen by seed; the worst of 1,000 random signs, BPDA-PGD on the network"
        " itself, and the share that is proved safe from every attack."
    )
    parts = [first, transfer_table(report), "Surrogates:", "\n".join(about), second, beyond_table(report, closer)]
    return "\n\n".join(parts) + "\n"


def _about(surrogate: Mapping[str, Any]) -> str:
    attacked = ", ".join(f"{a['attack']} {a['epsilon']:g}: {cell(a)}" for a in surrogate["attacked"])
    return (
        f"{surrogate['surrogate']}, {surrogate['architecture']}: clean {cell(surrogate['clean'])}, its own {attacked}"
    )


def reproduce(
    out: Path,
    data_root: str,
    seeds: int,
    tell: Say,
    *,
    common: Mapping[str, Any] | None = None,
    closer: int = CLOSER,
    workers: int = -1,
) -> str:
    """Train, evaluate and lay out the tables.

    Args:
        out: the recipe's folder.
        data_root: folder of the data; "": downloaded.
        seeds: of every network under test.
        tell: told what is done.
        common: settings of every network, in place of its own.
        closer: images for the attacks that take long.
        workers: evaluation actors; 0: in this process, -1: as many as there is room for.
    """
    first, second = trainings(seeds, out, common or {})
    train_all(first, out, data_root, tell)
    train_all(second, out, data_root, tell)
    tell(f"{out}: attacking {len(second)} networks by transfer from {len(SURROGATES)}")
    signs = named_attack("random-signs", epsilon=EPSILON, draws=1)
    transferred = [named_attack(name, epsilon=size) for name in ("fgsm", "pgd") for size in (EPSILON, 2 * EPSILON)]
    report = measure(second, out, data_root, Selection(), [*transferred, signs], "report", workers)
    tell(f"{out}: attacking them as they are, on {closer} images")
    direct = [
        named_attack("random-signs", epsilon=EPSILON),
        named_attack("bpda-pgd", epsilon=EPSILON, restarts=3),
        named_attack("exact", epsilon=EPSILON, seconds=EXACT_SECONDS),
    ]
    near = measure(second, out, data_root, Selection(count=closer), direct, "report-direct", workers)
    return explained(report, near)


@click.command()
@click.option("--data-root", metavar="DIR", default="", help="Folder of the data; downloaded when left out.")
@click.option("--out", metavar="DIR", default="runs/reproduce-2019", show_default=True, help="Runs, reports, table.md.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Of every network.")
def main(data_root: str, out: str, seeds: int) -> None:
    """Make the 2019 table from nothing; what is in --out already is not trained again."""
    tables = reproduce(Path(out), absolute(data_root), seeds, say)
    Path(out, "table.md").write_text(tables, encoding="utf-8")
    click.echo(tables)


if __name__ == "__main__":
    run_command(main)
