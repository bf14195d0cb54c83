"""report.md: the report as tables in GitHub's Markdown, the failed checks first, with the pictures in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glr_dist.errors import printable
from glr_dist.robustness.report.reading import Report, mean, percent
from glr_dist.robustness.report.verdicts import red_line

_SHARES = ("intervals", "program", "broken", "undecided")  # of the samples, in an entry of the worst cases
_HOLDS = {True: "holds", False: "**fails**", None: "not measured"}


def as_markdown(report: Report, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The report as one page, with pictures by their title and relative link."""
    parts = ["# Robustness", *_warnings(report), _conditions(report), "## Networks", _models(report)]
    if report["surrogates"]:
        parts += ["## Surrogates", _surrogates(report)]
    if report["worst"]:
        parts += ["## Worst case", _WORST, _worst(report), "## By attack", _ATTACKS, _attacks(report)]
    if any(line["sources"] > 1 for line in report["lines"]):
        parts += ["### Worst over surrogates and settings", _lines(report)]
    if report["corruptions"]:
        parts += ["## Corruptions", _corruptions(report)]
    parts += ["## Can it be believed?", _verdicts(report)]
    if pictures:
        parts += ["## Pictures", *(f"![{_cell(title)}]({link})\n\n*{_cell(title)}*" for title, link in pictures)]
    return "\n\n".join(parts) + "\n"


_WORST = (
    "Worst: the share of samples that are right without an attack and under every attack of that size (an upper bound)."
    " Proved: the share that is proved to be right in the whole ball (a lower bound), by intervals, or by the program where"
    " these were not enough; broken: the proof found an adversary, or the sample is wrong as it is; undecided: neither."
)
_ATTACKS = (
    "Intervals are 95%: Wilson's over the samples for one network; with an s, Student's t over the seeds."
    " Surrogate-right: among the samples that the surrogate classifies right."
    " Iterative attacks whose step has no size use 2.5 * epsilon / steps. Where a network has threshold units, bpda-pgd and"
    " eot-pgd follow a stand-in for a derivative that it does not have: what they fail to break may still break."
)


def _cell(value: Any) -> str:
    """Text that ends no cell of a table and starts no mark-up."""
    text = printable(" ".join(str(value).split()))
    for mark in ("\\", "|", "*", "_", "`", "[", "]", "<"):
        text = text.replace(mark, f"\\{mark}")
    return text


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _interval(found: Mapping[str, Any] | None) -> str:
    """The 95% interval of an accuracy of the report, with an s where it is over seeds."""
    if found is None or found["low"] is None:
        return "-"
    over = " s" if found["seeds"] > 1 else ""
    return f"{100 * found['low']:.1f} to {100 * found['high']:.1f}{over}"


def _warnings(report: Report) -> list[str]:
    """The checks that failed, in a box that GitHub shows in red."""
    failed = [f"> **{_cell(red_line(verdict))}**" for verdict in report["verdicts"] if verdict["holds"] is False]
    return ["> [!CAUTION]\n" + "\n>\n".join(failed)] if failed else []


def _conditions(report: Report) -> str:
    about = report["conditions"]
    facts = {**about["data"], "samples": about["samples"], "seed": about["seed"], "norm": about["norm"]}
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [f"* {_cell(name)}: {_cell(value)}" for name, value in facts.items()]
    return "\n".join([*lines, f"* epsilon: {_cell(about['epsilon'])}", f"* versions: {_cell(versions)}"])


def _models(report: Report) -> str:
    traits = ("method", "loss", "activation", "architecture", "noise", "votes")
    rows = []
    for entry in report["models"]:
        seeds = ", ".join(str(network["seed"]) for network in entry["networks"])
        prints = ", ".join(network["sha256"][:12] for network in entry["networks"])
        clean = entry["clean"]
        told = [_cell(entry[trait]) for trait in traits]
        rows.append([_cell(entry["model"]), *told, seeds, mean(clean), _interval(clean), prints])
    return _table(["model", *traits, "seeds", "clean", "95%", "SHA-256"], rows)


def _surrogates(report: Report) -> str:
    rows = []
    for entry in report["surrogates"]:
        told = [_cell(entry[trait]) for trait in ("surrogate", "method", "loss", "activation", "architecture")]
        about = [*told, entry["sha256"][:12], percent(entry["clean"]["mean"])]
        if not entry["attacked"]:
            rows.append([*about, "-", "-", "-"])
        for attacked in entry["attacked"]:
            size = f"{attacked['epsilon']:g}"
            rows.append([*about, _attack_name(attacked), size, percent(attacked["mean"])])
    titles = ["surrogate", "method", "loss", "activation", "architecture", "SHA-256", "clean"]
    return _table([*titles, "attack", "epsilon", "attacked"], rows)


def _attack_name(row: Mapping[str, Any]) -> str:
    return f"{row['attack']} ({_cell(row['settings'])})" if row["settings"] else str(row["attack"])


def _worst(report: Report) -> str:
    clean = {entry["model"]: entry["clean"] for entry in report["models"]}
    rows = [
        [
            _cell(entry["model"]),
            clean[entry["model"]]["seeds"],
            mean(clean[entry["model"]]),
            f"{entry['epsilon']:g}",
            *(mean(entry["worst"]), _interval(entry["worst"]), mean(entry["exact"]), _interval(entry["exact"])),
            *(percent(entry[share]) for share in _SHARES),
        ]
        for entry in report["worst"]
    ]
    titles = ["model", "seeds", "clean", "epsilon", "worst", "95%", "proved", "95%"]
    shares = ["proved (intervals)", "proved (program)", "broken", "undecided"]
    return _table([*titles, *shares], rows)


def _attacks(report: Report) -> str:
    titles = ["model", "method", "loss", "activation", "seeds", "norm", "epsilon", "attack", "knowledge", "library"]
    titles += ["restarts", "queries", "surrogate (clean, attacked)", "right", "95%", "samples"]
    titles += ["surrogate-right", "undecided", "without gradient", "seconds"]
    norm = report["conditions"]["norm"]
    return _table(titles, [_attack_row(row, norm) for row in report["attacks"]])


def _attack_row(row: Mapping[str, Any], norm: str) -> list[str]:
    surrogate = row["surrogate"]
    used = "-"
    if surrogate is not None:
        used = f"{_cell(surrogate['name'])} ({percent(surrogate['clean'])}, {percent(surrogate['attacked'])})"
    others = [
        f"{mean(found)} of {found['samples']}" + ("" if surrogate else f", {_cell(found['surrogate'])}")
        for found in row["surrogate_right"]
    ]
    everything = row["all"]
    return [
        *(_cell(row[trait]) for trait in ("model", "method", "loss", "activation")),
        *(str(everything["seeds"]), norm, f"{row['epsilon']:g}", _attack_name(row), row["knowledge"]),
        *(_cell(row["library"]) or "-", str(row["restarts"]), f"{row['queries']:g}", used),
        *(mean(everything), _interval(everything), str(everything["samples"])),
        *("<br>".join(others) or "-", percent(row["undecided"])),
        *(str(row["without_gradient"]), f"{row['seconds']:.1f}"),
    ]


def _lines(report: Report) -> str:
    rows = [
        [
            *(_cell(line["model"]), line["attack"], line["knowledge"], f"{line['epsilon']:g}", line["sources"]),
            *(mean(line), _interval(line)),
        ]
        for line in report["lines"]
        if line["sources"] > 1
    ]
    return _table(["model", "attack", "knowledge", "epsilon", "of", "right", "95%"], rows)


def _corruptions(report: Report) -> str:
    severities = sorted({found["severity"] for entry in report["corruptions"] for found in entry["severities"]})
    rows = []
    for entry in report["corruptions"]:
        by_severity = {found["severity"]: found for found in entry["severities"]}
        cells = [mean(by_severity.get(severity)) for severity in severities]
        rows.append([_cell(entry["model"]), entry["corruption"], *cells, mean(entry["mean"]), _interval(entry["mean"])])
    return _table(["model", "corruption", *(f"severity {severity}" for severity in severities), "mean", "95%"], rows)


def _verdicts(report: Report) -> str:
    rows = [
        [_cell(verdict["model"]), _cell(verdict["rule"]), _HOLDS[verdict["holds"]], _cell(verdict["detail"])]
        for verdict in report["verdicts"]
    ]
    return _table(["model", "check", "", "detail"], rows)
