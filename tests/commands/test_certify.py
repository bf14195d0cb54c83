"""``glr-dist certify``: a certificate holds when it is checked, and no longer once a line of it was changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call, last_json, refused
from safetensors.numpy import load_file, save_file


@pytest.fixture(scope="module")
def written(certified: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate") / "one"
    result = call("certify", str(certified), "--out", str(folder), "--epsilon", "0.15", "--count", "120")
    assert result.exit_code == 0, result.stderr
    assert "proved by intervals" in result.stdout
    return folder


def lines(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in (folder / "images.csv").read_text().splitlines()]


def test_it_holds_and_tells_what_evaluate_tells(certified: Path, written: Path) -> None:
    found = last_json(call("certify", str(certified), "--check", str(written), "--json"))
    assert found["faults"] == []
    counts = found["counts"]
    assert counts["undecided"] == 0 and sum(counts.values()) == 120
    assert min(counts["intervals"], counts["program"], counts["broken"]) >= 1
    how = ["--attack", "exact", "--epsilon", "0.15", "--count", "120", "--workers", "0", "--json"]
    (worst,) = last_json(call("evaluate", str(certified), *how))["worst"]
    assert {kind: round(120 * worst[kind]) for kind in counts} == counts


def robust_for_broken(folder: Path) -> None:
    text = (folder / "images.csv").read_text().splitlines()
    changed = [line.replace(",broken,,", ",robust,intervals,0.5") for line in text]
    (folder / "images.csv").write_text("\n".join(changed) + "\n")


def robust_by_program_for_broken(folder: Path) -> None:
    text = (folder / "images.csv").read_text().splitlines()
    changed = [line.replace(",broken,,", ",robust,program,0.5") for line in text]
    (folder / "images.csv").write_text("\n".join(changed) + "\n")


def another_bound(folder: Path) -> None:
    text = (folder / "images.csv").read_text().splitlines()
    row = next(i for i, line in enumerate(text) if ",intervals," in line)
    text[row] = text[row].rpartition(",")[0] + ",123.0"
    (folder / "images.csv").write_text("\n".join(text) + "\n")


def another_label(folder: Path) -> None:
    text = (folder / "images.csv").read_text().splitlines()
    index, label, *rest = text[1].split(",")
    text[1] = ",".join([index, str((int(label) + 1) % 10), *rest])
    (folder / "images.csv").write_text("\n".join(text) + "\n")


def adversaries_moved(by: float) -> Callable[[Path], None]:
    def move(folder: Path) -> None:
        file = folder / "adversaries.safetensors"
        save_file({name: np.clip(x + np.float32(by), 0, 1) for name, x in load_file(file).items()}, file)

    return move


def no_adversaries(folder: Path) -> None:
    save_file({}, folder / "adversaries.safetensors")


def counted(folder: Path) -> None:
    """Makes certificate.json count what images.csv says."""
    import json

    rows = [line[2:4] for line in lines(folder)[1:]]
    kinds = [by if status == "robust" else status for status, by in rows]
    about: dict[str, Any] = json.loads((folder / "certificate.json").read_text())
    about["counts"] = {kind: kinds.count(kind) for kind in about["counts"]}
    (folder / "certificate.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (robust_for_broken, "robust, but intervals leave a lead of -"),
        (robust_by_program_for_broken, "robust, but class"),
        (another_bound, "robust, but its bound is"),
        (another_label, "but the label is"),
        (adversaries_moved(0.4), "broken, but its adversary lies outside the ball"),
        (no_adversaries, "broken, but there is no adversary"),
    ],
)
def test_a_changed_line_is_found(
    change: Callable[[Path], None], told: str, certified: Path, written: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "changed"))
    change(folder)
    counted(folder)
    result = call("certify", str(certified), "--check", str(folder), "--seconds-per-sample", "5")
    assert result.exit_code == 1
    assert told in result.stderr
    assert "the certificate does not hold" in result.stderr


def test_counts_that_are_not_those_of_the_lines_are_found(certified: Path, written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "changed"))
    robust_for_broken(folder)
    result = call("certify", str(certified), "--check", str(folder))
    assert result.exit_code == 1 and "count otherwise" in result.stderr


def test_what_cannot_be_is_refused(certified: Path, trained: Path, written: Path, here: Path) -> None:
    run = str(certified)
    refused(call("certify", run), "--out: give a new folder to write a certificate to")
    refused(call("certify", run, "--out", str(written)), "holds a certificate already")
    refused(call("certify", run, "--check", str(here)), "holds no certificate.json")
    refused(call("certify", run, "--check", str(written), "--epsilon", "0.2"), "leave --epsilon and --count out")
    refused(call("certify", str(trained), "--check", str(written)), "give the run that it was made of")
    (here / "certificate.json").write_text("{}")
    refused(call("certify", run, "--check", str(here)), "can't be read")
