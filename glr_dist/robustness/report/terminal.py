"""The report in short for the terminal: accuracy by network and size, then what cannot be believed, in red."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from glr_dist.errors import printable_all
from glr_dist.robustness.report.reading import Report, corruption_means, mean, percent
from glr_dist.robustness.report.tally import kinds_of, sorted_by_key
from glr_dist.robustness.report.verdicts import red_line

_PROOFS = {  # keys of a worst case, and what their columns are called
    "exact": "proved",
    "intervals": "proved (intervals)",
    "program": "proved (program)",
    "broken": "broken",
    "undecided": "undecided",
}


def show_report(report: Report, *, to_stderr: bool = False) -> None:
    """Print the tables and the checks; to standard error where standard output is for a program to read."""
    report = printable_all(report)
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else 10_000  # a log wants one line for each row
    console = Console(file=stream, markup=False, highlight=False, width=width)
    console.print(accuracy_table(report))
    if report["corruptions"]:
        console.print(corruption_table(report))
    for verdict in report["verdicts"]:
        if verdict["holds"] is False:
            console.print(red_line(verdict), style="bold red", soft_wrap=True)
    for line in _remarks(report):
        console.print(line, soft_wrap=True)


def accuracy_table(report: Report) -> Table:
    """A row for each network and size, a column for each attack that was run on any."""
    attacks = [kind for kind in kinds_of(report["lines"]) if kind[1] != "exact"]
    exact = any(entry["exact"] for entry in report["worst"])
    ends = {"worst": "worst"} if attacks else {}
    ends |= _PROOFS if exact else {}
    told = [*(_title(*kind) for kind in attacks), *ends.values()]
    table = _table("Accuracy", ["model", "seeds", "clean", "epsilon", *told])
    lines = {(line["model"], line["epsilon"], line["attack"], line["knowledge"]): line for line in report["lines"]}
    for model in report["models"]:
        about = [model["model"], str(model["clean"]["seeds"]), mean(model["clean"])]
        sizes = [entry for entry in report["worst"] if entry["model"] == model["model"]]
        if not sizes:
            table.add_row(*about, "0", *["-"] * (len(attacks) + len(ends)))
        for entry in sizes:
            cells = [mean(lines.get((model["model"], entry["epsilon"], *kind))) for kind in attacks]
            cells += [mean(entry[end]) if end in ("worst", "exact") else percent(entry[end]) for end in ends]
            table.add_row(*about, f"{entry['epsilon']:g}", *cells)
    return table


def corruption_table(report: Report) -> Table:
    """A row for each network, a column for each corruption: the mean over the severities."""
    corruptions, means = corruption_means(report)
    table = _table("Accuracy on corrupted samples, mean over severities", ["model", *corruptions])
    for model in report["models"]:
        table.add_row(model["model"], *(mean(means.get((model["model"], name))) for name in corruptions))
    return table


def _table(title: str, titles: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in titles:
        table.add_column(name, overflow="fold", justify="left" if name == "model" else "right")
    return table


def _title(attack: str, knowledge: str) -> str:
    return attack if knowledge in ("none", "labels", "scores") else f"{attack} ({knowledge})"


def _remarks(report: Report) -> list[str]:
    """The checks that could not be made, by rule, a line each."""
    if not report["worst"]:
        return []
    missing = sorted_by_key((v for v in report["verdicts"] if v["holds"] is None), lambda v: str(v["rule"]))
    return [f"not measured: {rule} ({', '.join(v['model'] for v in same)})" for rule, same in missing.items()]
