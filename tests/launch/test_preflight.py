"""What stands in a run's way is found before it starts, and told node by node."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import glr_dist
from glr_dist.config import Config, parse_config
from glr_dist.errors import UserError
from glr_dist.launch import probe
from glr_dist.launch.node_report import check_nodes, remarks
from glr_dist.launch.preflight import NodeReport, problems, refuse


def _config(**keys: Any) -> Config:
    return parse_config("", {key.replace("__", "."): value for key, value in keys.items()})


def _node(name: str, **fields: Any) -> NodeReport:
    return dataclasses.replace(NodeReport(node=name, cpus=4.0, room=4, cpu="x86_64 AVX2"), **fields)


def test_a_sound_cluster_is_accepted() -> None:
    refuse([_node("a"), _node("b")], _config(engine__workers=8))


@pytest.mark.parametrize("keys", [{"engine__workers": 9}, {"engine__workers": 7, "engine__reconstructors": 2}])
def test_room_is_counted_over_all_nodes(keys: dict[str, Any]) -> None:
    [line] = problems([_node("a"), _node("b")], _config(**keys))
    assert "there is room for 8 actors of 1 CPU (a 4 CPUs, 0 GPUs, b 4 CPUs, 0 GPUs); lower them or add nodes" in line


def test_generators_need_cpus_alone() -> None:
    nodes = [_node("a"), _node("b", room=0)]  # a GPU for each of 4 workers on the first, none on the second
    keys = {"engine__workers": 4, "augment__attack": "fgsm"}
    assert problems(nodes, _config(**keys, engine__generators=4)) == []
    [line] = problems(nodes, _config(**keys, engine__generators=5))
    assert "there is room for 3 actors of 1 CPU beside --generators 5 (a 4 CPUs" in line
    [line] = problems(nodes, _config(engine__workers=0, augment__attack="fgsm", engine__generators=9))
    assert "there is room for 0 actors of 1 CPU beside --generators 9" in line


def test_controls_need_no_evaluators() -> None:
    assert problems([_node("a")], _config(method="bp", engine__workers=9)) == []


def test_the_first_problem_is_told_and_the_others_counted() -> None:
    nodes = [_node("a", problems=("torch 2.1, the driver has 2.2", "data: none")), _node("b", problems=("slow",))]
    with pytest.raises(UserError, match=r"node a: torch 2\.1, the driver has 2\.2 \(and 2 more; glr-dist check lists"):
        refuse(nodes, _config())


@pytest.mark.parametrize(
    ("fields", "keys", "refused"),
    [
        ({"gpu": "T4"}, {"engine__gpus_per_worker": 1, "engine__reconstructors": 1}, "A100 and T4"),
        ({"gpu": "A100"}, {"engine__gpus_per_worker": 1, "engine__reconstructors": 1}, ""),
        ({"gpu": "A100"}, {"engine__gpus_per_worker": 1}, ""),  # who evaluates reconstructs
        (
            {"gpu": "A100"},
            {"engine__gpus_per_worker": 1, "engine__reconstruct": "driver"},
            "on GPUs in actors, and on the CPU in the driver",
        ),
        ({"gpu": "T4"}, {}, ""),  # GPUs that nobody asked for
        ({"cpu": "aarch64 NEON"}, {}, "aarch64 and x86_64"),
        ({"cpu": "aarch64 NEON", "room": 0}, {}, ""),  # works on nothing
        ({"cpu": "aarch64 NEON"}, {"noise__source": "table"}, ""),
    ],
)
def test_a_generator_needs_one_kind_of_device(fields: dict[str, Any], keys: dict[str, Any], refused: str) -> None:
    config = _config(**{"noise__source": "generator"} | keys)
    found = problems([_node("a", gpu="A100", gpus=4.0), _node("b", **{"gpus": 4.0} | fields)], config)
    assert len(found) == bool(refused)
    assert refused in "".join(found)


def test_unequal_but_sound_nodes_are_remarked_on() -> None:
    assert remarks([_node("a", shared=True), _node("b", shared=True)]) == []
    lines = remarks([_node("a", shared=True), _node("b", shared=False, cpu="x86_64 AVX512")])
    assert [line.split(";")[0] for line in lines] == [
        "note: not all nodes share the run's folder",
        "note: CPUs of different kinds",
    ]


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "new"
    assert probe.write_and_delete(str(run), ".tmp-mark") is False
    assert list(tmp_path.iterdir()) == []
    run.mkdir(parents=True)
    (run / ".tmp-mark").touch()
    assert probe.write_and_delete(str(run), ".tmp-mark") is True
    assert [path.name for path in run.iterdir()] == [".tmp-mark"]


def test_a_probe_turns_whatever_happens_into_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = probe.answers({"name": "parquet", "root": str(tmp_path / "none")}, str(tmp_path / "file" / "run"), "m")
    assert answer["versions"]["glr_dist"] == glr_dist.__version__
    data, storage = answer["errors"]
    assert data.startswith("data: ") and str(tmp_path / "none") in data
    assert storage.startswith("storage: cannot write") and "not a directory" in storage


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_is_told_node_by_node(tmp_path: Path) -> None:
    """What the check said of `several_nodes`."""
    program = Path(__file__).parents[1] / "support" / "several_nodes.py"
    done = subprocess.run(
        [sys.executable, program, tmp_path], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    ports, shown = found["ports"], found["check"]
    first, second = (
        {ports[report["node"].rpartition(":")[2]]: report for report in found[key]} for key in ("first", "second")
    )
    for name, cpus, driver in (("head", 1, True), ("silent", 2, False)):
        report = first[name]
        assert report["problems"] == []
        assert (report["cpus"], report["room"], report["driver"], report["shared"]) == (cpus, cpus, driver, True)
    assert first["foreign"]["problems"][0] == f"glr_dist 0.0.1, the driver has {glr_dist.__version__}"
    storage, data = first["odd"]["problems"]
    assert storage.startswith("storage: cannot write") and "read-only file system" in storage
    assert data.startswith("data: other data (")
    # a silent node holds nothing up
    assert (second["silent"]["problems"], second["head"]["problems"]) == (["did not answer within 6 s"], [])
    # the command's table has a line for each node; its error is one line
    assert shown["code"] == 2
    for port, role in ports.items():
        [line] = [line for line in shown["out"].splitlines() if f":{port}" in line]
        assert line.rstrip().endswith("ok") == (role in ("head", "silent"))
    assert shown["err"].startswith("Error: the cluster is not ready: node ")
    # on the command line ~ is the driver's home for all, as in `train`: no other data. But 20 workers find no room.
    others = sum(len(report["problems"]) for report in first.values()) - 1  # beside the first, which is told
    assert f"(and {others} more; glr-dist check lists them)" in shown["err"]
    assert len(shown["err"].splitlines()) == 1
    assert found["left"] is False  # the run's folder is as it was


def test_python_and_the_command_line_look_at_the_nodes_before_a_run() -> None:
    for door in (glr_dist.train, glr_dist.resume):
        assert door.keywords == {"preflight": check_nodes}
