"""``glr-dist export``: a network and its properties as files, which a second verifier reads and decides alike."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
from command_line import call, last_json, refused
from second_verifier import SecondVerifier


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as lines:
        return list(csv.reader(lines))


def test_a_second_verifier_decides_every_exported_property_alike(certified: Path, here: Path) -> None:
    how = ["--vnnlib", "2.0", "--epsilon", "0.1", "--epsilon", "0.2", "--count", "10"]
    found = last_json(call("export", str(certified), "--onnx", "out/network.onnx", *how, "--json"))
    assert found["same"] == found["images"] == 359
    instances, verdicts = rows(here / "out" / "instances.csv"), rows(here / "out" / "verdicts.csv")
    assert [line[:2] for line in instances] == [["network.onnx", line[0]] for line in verdicts]
    assert len(verdicts) == 20
    verifier = SecondVerifier(here / "out" / "network.onnx")
    theirs = {file: verifier.verdict(here / "out" / file, 30.0) for file, _, _ in verdicts}
    assert theirs == {file: verdict for file, verdict, _ in verdicts}
    counts = Counter(theirs.values())
    assert min(counts["sat"], counts["unsat"]) >= 3
    assert found["verdicts"] == {"unsat": counts["unsat"], "sat": counts["sat"], "unknown": 0}
    for file, verdict, example in verdicts:
        assert bool(example) == (verdict == "sat")
        if example:
            values = re.findall(r"\(X_\d+ ([^)]+)\)", (here / "out" / example).read_text())
            box = re.findall(r"\(([<>]=) X\[[^]]+\] ([0-9.]+)\)", (here / "out" / file).read_text())
            ends = [float(value) for _, value in box]
            point = np.array([float(value) for value in values])
            assert (point >= ends[0::2]).all() and (point <= ends[1::2]).all()


def test_a_network_alone_needs_no_radius(trained: Path, here: Path) -> None:
    result = call("export", str(trained), "--onnx", "network.onnx")
    assert result.exit_code == 0, result.stderr
    assert "359 of 359 test images" in result.stdout
    assert [file.name for file in here.iterdir()] == ["network.onnx"]
    refused(call("export", str(trained), "--onnx", "network.onnx"), "--onnx network.onnx: is there already")


def test_a_version_without_a_radius_is_refused(trained: Path) -> None:
    refused(call("export", str(trained), "--onnx", "n.onnx", "--vnnlib", "1.0"), "give --vnnlib 2.0 --epsilon 0.1")
    refused(call("export", str(trained), "--onnx", "n.onnx", "--epsilon", "0.1"), "give --vnnlib 2.0 --epsilon 0.1")
