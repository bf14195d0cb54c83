"""What an evaluation found, as numbers: report.json.

The same findings give the same report, byte for byte; only entries named ``seconds`` depend on the machine. Accuracies
are shares in [0, 1], averaged over the networks of one name (its seeds). Three levels, each the per-sample worst of
the one before:

    attacks   network, attack with its settings, surrogate, size; size 0 is the clean sample
    lines     network, attack, what it knows, size: over surrogates and settings
    worst     network, size: over all attacks and the clean sample; beside it the exact answer, where there is one
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from glr_dist import __version__
from glr_dist.robustness.findings import Findings
from glr_dist.robustness.report.attacked import attack_lines, attack_rows, worst_cases
from glr_dist.robustness.report.corrupted import corruption_entries
from glr_dist.robustness.report.markdown import as_markdown
from glr_dist.robustness.report.networks import model_entries, surrogate_entries
from glr_dist.robustness.report.pictures import draw_pictures
from glr_dist.robustness.report.verdicts import verdicts
from glr_dist.store.storage import Storage

_DIGITS = 6  # significant ones


def write_report(folder: Storage, findings: Findings) -> dict[str, Any]:
    """Write report.md, pictures/*.png and, last, report.json, whose content is returned; old files are replaced."""
    report = build_report(findings)
    pictures = draw_pictures(report, findings)
    folder.delete("pictures")
    if pictures:
        folder.write_folder("pictures", {picture.file: picture.png for picture in pictures})
    links = [(picture.title, f"pictures/{picture.file}") for picture in pictures]
    folder.write("report.md", as_markdown(report, links).encode())
    folder.write("report.json", f"{json.dumps(report, indent=1, allow_nan=False)}\n".encode())
    return report


def build_report(findings: Findings) -> dict[str, Any]:
    """The content of report.json; the order of the outcomes in the findings does not matter."""
    assert all(outcome.right.shape == findings.labels.shape for outcome in findings.attacks)
    report = {
        "conditions": _conditions(findings),
        "models": model_entries(findings),
        "surrogates": surrogate_entries(findings),
        "attacks": attack_rows(findings),
        "lines": attack_lines(findings),
        "worst": worst_cases(findings),
        "corruptions": corruption_entries(findings),
        "verdicts": [asdict(verdict) for verdict in verdicts(findings)],
    }
    rounded: dict[str, Any] = _rounded(report)
    return rounded


def _conditions(findings: Findings) -> dict[str, Any]:
    versions = {package: metadata.version(package) for package in ("numpy", "scipy", "torch")}
    return {
        "data": findings.data,
        "samples": len(findings.labels),
        "seed": findings.seed,
        "norm": "L-infinity",
        "epsilon": "in input units; inputs are in [0, 1]",
        "versions": {"glr_dist": __version__, "python": platform.python_version(), **versions},
    }


def _rounded(thing: Any) -> Any:
    """Floats to a sensible number of digits, in everything that JSON can hold."""
    if isinstance(thing, dict):
        return {key: _rounded(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_rounded(value) for value in thing]
    return float(f"{thing:.{_DIGITS}g}") if isinstance(thing, float) else thing
