"""A cluster of four raylets, three of them with something wrong, and what the pre-flight check says of it.

A program of its own, so that it shares no Ray with the other tests. Arguments: a folder to work in. Prints one JSON object.

The head is sound. ``foreign`` has another glr_dist first on its path. ``odd`` has other data in its home, and a disk that
refuses to be written. ``silent`` is sound at first, then stopped in the middle of everything.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from click.testing import CliRunner
from ray.cluster_utils import Cluster

from glr_dist.cli import main
from glr_dist.config import Config, parse_config
from glr_dist.data.shards import write_shards
from glr_dist.launch.preflight import preflight

_REFUSING_DISK = """
import errno, os
_replace = os.replace
def replace(source, target, **options):
    if str(target).startswith({run!r}):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
    return _replace(source, target, **options)
os.replace = replace
"""


def main_program(folder: Path) -> dict[str, Any]:
    """Start the cluster, check it, and check it again with one node stopped."""
    run = folder / "runs" / "new"
    homes = {name: _home(folder / name, shade) for name, shade in (("head", 0), ("odd", 1))}
    os.environ["HOME"] = str(homes["head"])
    _write(folder / "foreign" / "glr_dist" / "__init__.py", '__version__ = "0.0.1"\n')
    _write(folder / "refusing" / "sitecustomize.py", _REFUSING_DISK.format(run=str(run)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    variables = {
        "foreign": {"PYTHONPATH": str(folder / "foreign")},
        "odd": {"PYTHONPATH": str(folder / "refusing"), "HOME": str(homes["odd"])},
        "silent": {},
    }
    nodes = {name: cluster.add_node(num_cpus=2, env_vars=env, resources={name: 1}) for name, env in variables.items()}
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        names = {node["NodeManagerPort"]: _role(node["Resources"]) for node in ray.nodes()}
        first = preflight(_config(), run, seconds=90)
        shown = _checked("--run-dir", str(run), "--workers", "20")
        left = run.exists() or run.parent.exists()
        raylet = nodes["silent"].all_processes["raylet"][0].process
        os.kill(raylet.pid, signal.SIGSTOP)
        second = preflight(_config(), run, seconds=6)
        os.kill(raylet.pid, signal.SIGCONT)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return {
        "ports": names,
        "first": [dataclasses.asdict(report) for report in first],
        "second": [dataclasses.asdict(report) for report in second],
        "check": shown,
        "left": left,
    }


def _checked(*arguments: str) -> dict[str, Any]:
    data = ("--set", "data.name=parquet", "--set", "data.root=~/shards")
    result = CliRunner().invoke(main, ["check", *data, *arguments])
    return {"code": result.exit_code, "out": result.stdout, "err": result.stderr}


def _config() -> Config:
    return parse_config("", {"data.name": "parquet", "data.root": "~/shards", "engine.workers": 3})


def _home(folder: Path, shade: int) -> Path:
    """A home with 40 images of one grey."""
    images, labels = np.full((40, 1, 2, 2), shade, np.uint8), np.arange(40) % 2
    folder.mkdir()
    write_shards(str(folder / "shards"), {"train": (images, labels)}, name="grey", classes=("a", "b"), shards=2)
    return folder


def _role(resources: dict[str, float]) -> str:
    return next((name for name in ("foreign", "odd", "silent") if name in resources), "head")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


if __name__ == "__main__":
    print(json.dumps(main_program(Path(sys.argv[1]))))
