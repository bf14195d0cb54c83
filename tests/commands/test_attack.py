"""``glr-dist attack``: sets of adversarial samples, and one line for every mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import call, last_json, refused, script


def test_each_size_gets_a_set_that_evaluate_can_read(surrogate: Path, trained: Path, here: Path) -> None:
    sizes = ["--epsilon", "0.05", "--epsilon", "0.3"]
    report = last_json(call("attack", str(surrogate), *sizes, "--out", "sets", "--workers", "0", "--json"))
    small, large = report["sets"]
    assert [small["out"], large["out"]] == ["sets/eps-0.05", "sets/eps-0.3"]
    assert small["right_before"] == large["right_before"] > small["right_after"] > large["right_after"]
    assert small["attack"]["name"] == "fgsm"
    rows = sum(pq.read_metadata(file).num_rows for file in (here / "sets" / "eps-0.3").glob("*.parquet"))
    assert rows == small["count"] == 359
    found = last_json(call("evaluate", str(trained), "--samples", "sets/eps-0.3", "--workers", "0", "--json"))
    (row,) = (row for row in found["attacks"] if row["epsilon"] == 0.3)
    assert (row["attack"], row["knowledge"]) == ("fgsm", "transfer")


def test_sets_get_a_named_folder_and_people_a_table(surrogate: Path, here: Path) -> None:
    result = call("attack", str(surrogate), "--attack", "pgd", "--steps", "3", "--count", "20", "--workers", "0")
    assert result.exit_code == 0, result.stderr
    meta = json.loads((here / "attacks" / "bp-pgd" / "eps-0.1" / "meta.json").read_text())
    assert (meta["attack"]["steps"], meta["count"]) == (3, 20)
    for text in ("its accuracy", "without a gradient", "--samples attacks/bp-pgd/eps-0.1"):
        assert text in result.stdout
    checkpoint = next((surrogate / "checkpoints").iterdir())
    assert call("attack", str(checkpoint), "--count", "5", "--workers", "0").exit_code == 0
    assert (here / "attacks" / "bp-fgsm" / "eps-0.1" / "meta.json").exists()


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--epsilon", "-0.1"], ["--epsilon -0.1"]),
        (["--attack", "exact"], ["--attack exact", "evaluate"]),
        (["--count", "0"], ["--count 0", "1 to 359"]),
        (["--dataset", "minst"], ["did you mean 'mnist'?"]),
        (["--out", "taken"], ["--out", "taken", "choose a new folder"]),
        (["--workers", "-2"], ["--workers", "-2"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_attacked_is_refused(surrogate: Path, here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "thesis.tex").write_text("do not lose me")
    before = sorted(here.rglob("*"))
    workers = [] if "--workers" in args else ["--workers", "0"]
    refused(call("attack", str(surrogate), *args, *workers), *mentions)
    assert sorted(here.rglob("*")) == before


def test_a_threshold_network_has_no_gradient_to_follow_but_a_stand_in(trained: Path) -> None:
    refused(call("attack", str(trained), "--workers", "0"), "no gradient", "--attack bpda-pgd")
    how = ["--attack", "bpda-pgd", "--steps", "2", "--restarts", "1", "--count", "10", "--workers", "0", "--json"]
    assert last_json(call("attack", str(trained), *how))["sets"][0]["count"] == 10


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(surrogate: Path, here: Path) -> None:
    args = ["attack", str(surrogate), "--attack", "pgd", "--steps", "400", "--out", "set", "--workers", "0"]
    child = subprocess.Popen(script(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while not list(here.glob("set/*.parquet")) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "interrupted; the same command makes the sets that are missing"
    assert not (here / "set" / "meta.json").exists()
    refused(call("evaluate", str(surrogate), "--samples", "set", "--workers", "0"), "there is no meta.json")
    assert call(*args).exit_code == 0
    assert (here / "set" / "meta.json").exists()
    shutil.rmtree(here / "set")
