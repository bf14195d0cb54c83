"""The table of the 2021 paper (Peng, Xiao, Heidergott, Hong and Lam) made from nothing, ours beside the published.

784-50-10 networks on MNIST and Fashion-MNIST, Laplace noise of scale 1 in training and none at prediction, the official
test split. LRS and LRT: sigmoid and threshold units trained by likelihood ratios with cross-entropy; LRSZ and LRTZ: with
the 0-1 loss, which hears nothing of a class that is never predicted: an accuracy near 85% on MNIST is nine classes learnt
and one lost. LRSZ-tanh, not in the paper: the same with units centred about 0, which loses none there. Controls:
back-propagation (BP), with the same noise, and straight through the threshold units.

Columns: clean; the corruptions, each averaged over severities 1 to 5 (glass blur also as the original ran it, along one
axis: "compat"); FGSM of size 0.13 by transfer from two networks that back-propagation trained with a seed of their own, on
all test images and on those that the surrogate gets right; and the worst of ten draws of random signs of that size.

The networks see standardized pixels: their first layer subtracts the data's mean and divides by its standard deviation
(those of the 0-1 loss only subtract the mean). Contrast depends on that more than on how a network is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from table_recipe import Say, Training, cell, markdown, run_command, train_all

from glr_dist.attacks.attack import named_attack
from glr_dist.commands.display import job_display
from glr_dist.commands.terminal import say
from glr_dist.errors import UserError, nearest
from glr_dist.robustness.evaluation import evaluate_robustness, open_data
from glr_dist.robustness.report.build import write_report
from glr_dist.robustness.selection import Selection
from glr_dist.robustness.subjects import open_subjects
from glr_dist.store.places import absolute
from glr_dist.store.storage import Storage

PRESET = "mnist-2021-threshold"
EPSILON = 0.13
SURROGATE_SEED = 1000  # apart from those of the networks under test

DATASETS: dict[str, dict[str, Any]] = {
    "mnist": {"data.name": "mnist", "model.input_mean": 0.1307, "model.input_std": 0.3081},
    "fashion-mnist": {"data.name": "fashion-mnist", "model.input_mean": 0.2860, "model.input_std": 0.3530},
}
ALL = {"noise.family": "laplace", "noise.scale": 1.0, "optimizer.weight_decay": 0.3}
SIGMOID = {"model.activation": "sigmoid"}
ZERO_ONE = {  # the output needs its noise too, so all sites at once
    "loss": "zero-one",
    "estimator.scheme": "joint",
    "estimator.copies": 64,
    "optimizer.lr": 6e-3,
    "optimizer.weight_decay": 0.1,
    "model.input_std": 1.0,  # centred only: more noise beside the inputs, which glass blur needs where weights decay less
    "steps": 4000,
}
FEW = {"estimator.copies": 4}  # a gradient by autograd needs no more
NETWORKS: dict[str, dict[str, Any]] = {
    "LRT": {},
    "LRTZ": ZERO_ONE,
    "LRS": SIGMOID,
    "LRSZ": {**ZERO_ONE, **SIGMOID},
    "LRSZ-tanh": {**ZERO_ONE, "model.activation": "tanh"},
    "BP": {"method": "bp", **SIGMOID},
    "BP-noise": {"method": "bp-noise", **SIGMOID, **FEW},
    "straight-through": {"method": "straight-through"},
}
SURROGATES: dict[str, dict[str, Any]] = {
    "sigmoid": {"method": "bp", "model.activation": "sigmoid"},
    "relu": {"method": "bp", "model.activation": "relu"},
}

CORRUPTIONS = {
    "gaussian": "Gauss",
    "impulse": "Impulse",
    "glass-blur": "Glass",
    "glass-blur-compat": "Glass, compat",
    "contrast": "Contrast",
}
_PUBLISHED_COLUMNS = ("clean", "fgsm", "gaussian", "impulse", "glass-blur", "contrast")
PUBLISHED = {
    dataset: {name: dict(zip(_PUBLISHED_COLUMNS, row, strict=True)) for name, row in rows.items()}
    for dataset, rows in {
        "mnist": {
            "BP": (96.34, 28.37, 96.35, 91.95, 86.16, 67.25),
            "LRS": (95.54, 45.91, 95.37, 93.78, 87.79, 76.98),
            "LRT": (95.33, 54.35, 94.17, 95.01, 86.76, 68.13),
            "LRSZ": (84.54, 58.05, 82.53, 81.23, 79.25, 80.92),
            "LRTZ": (90.22, 61.36, 90.54, 90.10, 87.19, 79.81),
        },
        "fashion-mnist": {
            "BP": (86.45, 17.86, 81.05, 65.40, 55.02, 41.05),
            "LRS": (83.93, 52.85, 82.53, 80.23, 79.09, 49.96),
            "LRT": (85.54, 42.62, 82.79, 82.65, 77.16, 45.82),
            "LRSZ": (58.68, 46.35, 54.26, 52.43, 51.05, 40.77),
            "LRTZ": (62.05, 57.19, 57.93, 57.25, 53.13, 44.68),
        },
    }.items()
}


def trainings(dataset: str, seeds: int) -> tuple[list[Training], list[Training]]:
    """The networks under test, seed by seed, and the surrogates.

    Args:
        dataset: one of DATASETS.
        seeds: 0, 1, ... of every network under test.
    """
    common = {**DATASETS[dataset], **ALL}
    tested = [
        Training(name=name, seed=seed, preset=PRESET, settings={**common, **settings})
        for seed in range(seeds)
        for name, settings in NETWORKS.items()
    ]
    surrogates = [
        Training(name=f"surrogate-{name}", seed=SURROGATE_SEED, preset=PRESET, settings={**common, **settings})
        for name, settings in SURROGATES.items()
    ]
    return tested, surrogates


def measure(
    tested: Sequence[Training],
    surrogates: Sequence[Training],
    folder: Path,
    data_root: str,
    selection: Selection,
    show: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Evaluate what was trained and write the report beside it.

    Args:
        tested: networks under test.
        surrogates: that FGSM's samples are made on.
        folder: where they were trained.
        data_root: folder of the data; "": downloaded.
        selection: which samples.
        show: told of the progress.

    Returns:
        The content of report.json.
    """
    data = open_data(folder / tested[0].folder, data_root=data_root or None)
    findings = evaluate_robustness(
        open_subjects([(training.name, folder / training.folder) for training in tested], data),
        data,
        attacks=[
            named_attack("fgsm", epsilon=EPSILON),
            named_attack("random-signs", epsilon=EPSILON, draws=10),
        ],
        surrogates=open_subjects([(training.name, folder / training.folder) for training in surrogates], data),
        corruptions=list(CORRUPTIONS),
        selection=selection,
        say=say,
        show=show,
    )
    return write_report(Storage.at(folder / "report"), findings)


def table(dataset: str, report: Mapping[str, Any]) -> str:
    """The table, ours beside the published, and who the surrogates were."""
    names = [surrogate["surrogate"] for surrogate in report["surrogates"]]
    attacked = [title for name in names for title in (f"FGSM, {name}", "of those it gets right")]
    header = [dataset, "seeds", "clean", *CORRUPTIONS.values(), *attacked, "random signs"]
    rows = [list(_row(PUBLISHED.get(dataset, {}).get(m["model"], {}), m, report)) for m in report["models"]]
    conditions = report["conditions"]
    told = (
        f"{dataset}, {conditions['data']['split']} split, {conditions['samples']} images: accuracy in %, mean ± standard"
        f" deviation over the seeds (published). FGSM and random signs: eps {EPSILON}. Surrogates:"
    )
    about = [f"* {_about(surrogate)}" for surrogate in report["surrogates"]]
    return "\n".join([markdown(header, rows), "", told, "", *about, ""])


def _row(published: Mapping[str, float], model: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    name = model["model"]
    yield name
    yield str(model["clean"]["seeds"])
    yield cell(model["clean"], published.get("clean"))
    means = {c["corruption"]: c["mean"] for c in report["corruptions"] if c["model"] == name}
    for corruption in CORRUPTIONS:
        yield cell(means[corruption], published.get(corruption.removesuffix("-compat")))
    for attack in (row for row in report["attacks"] if row["model"] == name and row["attack"] == "fgsm"):
        yield cell(attack["all"], published.get("fgsm"))
        yield cell(attack["surrogate_right"][0])
    (control,) = (row for row in report["attacks"] if row["model"] == name and row["attack"] == "random-signs")
    yield cell(control["all"])


def _about(surrogate: Mapping[str, Any]) -> str:
    after = ", ".join(cell(attacked) for attacked in surrogate["attacked"])
    return (
        f"{surrogate['surrogate']}: {surrogate['architecture']} {surrogate['activation']}, {surrogate['method']},"
        f" seed {surrogate['seed']}: clean {cell(surrogate['clean'])}, under its own samples {after}."
    )


def reproduce(dataset: str, folder: Path, data_root: str, seeds: int, show: Any, tell: Say) -> str:
    """Train, evaluate and lay out one data set's table.

    Args:
        dataset: one of DATASETS.
        folder: of its runs and its report.
        data_root: folder of the data; "": downloaded.
        seeds: of every network under test.
        show: told of the evaluation's progress.
        tell: told what is done.
    """
    tested, surrogates = trainings(dataset, seeds)
    train_all([*tested, *surrogates], folder, data_root, tell)
    tell(f"{folder}: evaluating {len(tested)} networks")
    return table(dataset, measure(tested, surrogates, folder, data_root, Selection(), show))


@click.command()
@click.option("--data-root", metavar="DIR", default="", help="Folder of the data; downloaded when left out.")
@click.option("--out", metavar="DIR", default="runs/reproduce-2021", show_default=True, help="Runs, reports, table.md.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Of every network.")
@click.option("--datasets", metavar="A,B", default=",".join(DATASETS), show_default=True, help="Which tables.")
def main(data_root: str, out: str, seeds: int, datasets: str) -> None:
    """Make the 2021 table from nothing; what is in --out already is not trained again."""
    names = [name.strip() for name in datasets.split(",")]
    for name in names:
        if name not in DATASETS:
            raise UserError(f"--datasets {name}: unknown; {nearest(name, DATASETS)}")
    parts = []
    for name in names:
        with job_display() as show:
            parts.append(reproduce(name, Path(out) / name, absolute(data_root), seeds, show, say))
        Path(out, "table.md").write_text("\n".join(parts), encoding="utf-8")
    click.echo("\n".join(parts))


if __name__ == "__main__":
    run_command(main)
