"""``glr-dist runs`` and ``compare`` on real runs."""

from __future__ import annotations

from pathlib import Path

from command_line import call, last_json, refused


def test_runs_are_listed(trained: Path, surrogate: Path) -> None:
    assert call("runs", str(trained.parent)).stdout.splitlines()[0].split()[:3] == ["run", "state", "step"]
    (row,) = last_json(call("runs", str(trained.parent), "--json"))["runs"]
    assert (row["run"], row["step"], row["state"], row["estimator.copies"]) == ("run", 20, "finished", 32)
    both = call("runs", str(trained.parent.parent), "--where", "method=bp*")
    assert "bp" in both.stdout
    assert "layerwise" not in both.stdout
    refused(call("runs", "nowhere"), "DIR nowhere", "no such folder")


def test_an_empty_folder_has_no_runs(here: Path) -> None:
    assert call("runs", ".").stdout == "no runs\n"


def test_runs_are_compared(trained: Path, surrogate: Path) -> None:
    result = call("compare", str(trained), str(surrogate), "--json")
    found = last_json(result)
    assert found["differences"]["method"] == ["glr", "bp"]
    assert "What differs" in result.stderr
    assert "test accuracy (95%)" in result.stderr
