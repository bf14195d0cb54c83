from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_findings import card, findings, mask, outcome, rich_findings

from glr_dist.robustness.findings import CorruptionOutcome, Findings
from glr_dist.robustness.report.build import build_report, write_report
from glr_dist.store.storage import Storage


@pytest.fixture(scope="module")
def found() -> Findings:
    """Eight samples; the surrogate gets the first six right, and the network all but the last."""
    return findings(
        [card("net", mask("11111110"))],
        [
            outcome("fgsm", 0.1, mask("00111111"), "transfer", surrogate=0, seconds=1.5, queries=2.0),
            outcome("pgd", 0.1, mask("11001111"), "transfer", surrogate=0, without_gradient=3),
            outcome("random-signs", 0.1, mask("11111110")),
            outcome("bpda-pgd", 0.1, mask("11110110"), restarts=3),
            outcome("exact", 0.1, mask("00000010"), undecided=mask("00000100")),
        ],
        surrogates=[card("rival", mask("11111100"), 5, method="bp")],
        surrogate_attacks=[outcome("fgsm", 0.1, mask("00000111"), "white-box")],
    )


def rows(report: dict[str, Any], attack: str) -> list[dict[str, Any]]:
    return [row for row in report["attacks"] if row["attack"] == attack]


def test_both_denominators_by_hand(found: Findings) -> None:
    (fgsm,) = rows(build_report(found), "fgsm")
    assert (fgsm["all"]["mean"], fgsm["all"]["samples"]) == (6 / 8, 8)
    (right,) = fgsm["surrogate_right"]
    assert (right["surrogate"], right["samples"], right["mean"]) == ("rival", 6, pytest.approx(4 / 6, abs=1e-6))


def test_clean_is_size_zero_on_both_denominators(found: Findings) -> None:
    (clean,) = rows(build_report(found), "none")
    assert (clean["epsilon"], clean["all"]["mean"], clean["surrogate_right"][0]["mean"]) == (0.0, 7 / 8, 1.0)


def test_a_row_says_all_that_the_columns_ask(found: Findings) -> None:
    report = build_report(found)
    (fgsm,), (bpda,), (signs,) = (rows(report, name) for name in ("fgsm", "bpda-pgd", "random-signs"))
    expected = {"model": "net", "method": "glr", "loss": "cross-entropy", "activation": "heaviside"}
    expected |= {"knowledge": "transfer", "library": "glr_dist 0.1.0", "restarts": 1, "queries": 2.0, "seconds": 1.5}
    assert {name: fgsm[name] for name in expected} == expected
    assert fgsm["surrogate"]["clean"] == 6 / 8
    assert fgsm["surrogate"]["attacked"] == 3 / 8
    assert (bpda["restarts"], bpda["settings"]) == (3, "40 steps, 3 restarts, slopes 1, 2, 5, 10")
    assert signs["restarts"] == 1000
    assert report["conditions"]["norm"] == "L-infinity"


def test_a_surrogate_that_was_not_attacked_has_no_attacked_accuracy(found: Findings) -> None:
    (pgd,) = rows(build_report(found), "pgd")
    assert pgd["surrogate"]["attacked"] is None
    assert pgd["without_gradient"] == 3


def test_the_worst_case_is_counted_per_sample(found: Findings) -> None:
    """Of 8: two fall to fgsm, two to pgd, one to bpda, and the last is wrong without an attack.

    Wilson's interval of 2 of 8: (2 + 1.9208 +- 1.96 * sqrt(1.5 + 0.9604)) / 11.8416.
    """
    (entry,) = build_report(found)["worst"]
    assert entry["worst"]["mean"] == 2 / 8
    assert (entry["worst"]["low"], entry["worst"]["high"]) == pytest.approx((0.0715, 0.5907), abs=1e-4)
    assert (entry["exact"]["mean"], entry["undecided"]) == (1 / 8, 1 / 8)


def test_the_worst_case_is_taken_within_each_seed_and_averaged_after() -> None:
    """Both seeds keep half under each attack; together nothing of one and half of the other."""
    made = findings(
        [card("net", mask("1111"), seed) for seed in (0, 1)],
        [
            outcome("fgsm", 0.1, mask("1100"), "white-box", model=0),
            outcome("square", 0.1, mask("0011"), model=0),
            outcome("fgsm", 0.1, mask("1100"), "white-box", model=1),
            outcome("square", 0.1, mask("1100"), model=1),
        ],
    )
    report = build_report(made)
    (entry,) = report["worst"]
    assert (entry["worst"]["mean"], entry["worst"]["seeds"]) == (0.25, 2)
    assert entry["worst"]["sd"] == pytest.approx(np.std([0, 0.5], ddof=1), abs=1e-6)
    assert [row["all"]["mean"] for row in report["attacks"]] == [1.0, 0.5, 0.5]
    assert (entry["exact"], entry["undecided"]) == (None, None)


def test_a_line_is_the_worst_over_surrogates() -> None:
    made = findings(
        [card("net", mask("1111"))],
        [outcome("fgsm", 0.1, mask(text), "transfer", surrogate=n) for n, text in enumerate(("0111", "1011", "1101"))],
        surrogates=[card("rival", mask("1110"), seed) for seed in range(3)],
    )
    report = build_report(made)
    (line,) = report["lines"]
    assert (line["mean"], line["sources"]) == (0.25, 3)
    assert [row["surrogate"]["name"] for row in rows(report, "fgsm")] == [f"rival (seed {seed})" for seed in range(3)]


def test_corruptions_are_averaged_over_severities_then_over_all() -> None:
    made = findings(
        [card("net", mask("1111"))],
        corruptions=[
            CorruptionOutcome(model=0, corruption=name, severity=severity, right=mask(text))
            for name, severity, text in (("zoom", 1, "1111"), ("blur", 2, "1000"), ("blur", 1, "1110"))
        ],
    )
    blur, zoom, overall = build_report(made)["corruptions"]
    assert [(s["severity"], s["mean"]) for s in blur["severities"]] == [(1, 0.75), (2, 0.25)]
    assert (blur["mean"]["mean"], zoom["mean"]["mean"]) == (0.5, 1.0)
    assert (overall["corruption"], overall["mean"]["mean"]) == ("all", 0.75)


def test_networks_of_one_name_that_differ_are_not_told_as_one() -> None:
    made = findings([card("net", mask("1")), card("net", mask("1"), 1, method="bp")])
    (model,) = build_report(made)["models"]
    assert (model["method"], model["loss"]) == ("glr / bp", "cross-entropy")


def without_seconds(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: without_seconds(value) for key, value in thing.items() if key != "seconds"}
    return [without_seconds(value) for value in thing] if isinstance(thing, list) else thing


def test_the_order_of_arrival_changes_nothing_and_time_only_seconds() -> None:
    made = rich_findings()
    other = dataclasses.replace(
        made,
        attacks=[dataclasses.replace(found, seconds=9.0) for found in reversed(made.attacks)],
        surrogate_attacks=made.surrogate_attacks[::-1],
        corruptions=made.corruptions[::-1],
    )
    one, two = build_report(made), build_report(other)
    assert one != two
    assert json.dumps(without_seconds(one)) == json.dumps(without_seconds(two))


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_findings_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(Storage.at(tmp_path / name), rich_findings())
    one, two = read_all(tmp_path / "one"), read_all(tmp_path / "two")
    assert {"report.json", "report.md", "pictures/accuracy.png", "pictures/corruptions.png"} < set(one)
    assert one == two


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_the_file_is_strict_json_and_what_was_returned(tmp_path: Path, found: Findings) -> None:
    returned = write_report(Storage.at(tmp_path), found)
    assert json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse) == returned


def test_a_second_report_leaves_no_picture_of_the_first(tmp_path: Path, found: Findings) -> None:
    write_report(Storage.at(tmp_path), found)
    assert (tmp_path / "pictures" / "accuracy.png").exists()
    write_report(Storage.at(tmp_path), findings([card("net", mask("1111"))]))
    assert set(read_all(tmp_path)) == {"report.json", "report.md"}
