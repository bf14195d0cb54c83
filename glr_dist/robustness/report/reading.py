"""What the page, the terminal and the pictures read from a report alike: numbers in people's form, corruptions in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Report = Mapping[str, Any]  # the content of report.json


def percent(share: float | None) -> str:
    """A share for people to read; "-" where there is none."""
    return "-" if share is None else f"{100 * share:.1f}%"


def mean(found: Mapping[str, Any] | None) -> str:
    """The mean of an accuracy of the report, with its standard deviation over the seeds if there are several."""
    if found is None:
        return "-"
    spread = "" if found["sd"] is None else f" (sd {100 * found['sd']:.1f})"
    return percent(found["mean"]) + spread


def corruption_means(report: Report) -> tuple[list[str], dict[tuple[str, str], Mapping[str, Any]]]:
    """The corruptions, ``all`` last, and by (network, corruption) the accuracy, mean over the severities."""
    means = {(entry["model"], entry["corruption"]): entry["mean"] for entry in report["corruptions"]}
    names = dict.fromkeys(corruption for _, corruption in means)
    return sorted(names, key=lambda name: name == "all"), means
