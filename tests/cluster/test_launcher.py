"""The cluster-launcher files against the schema and the checks that `ray up` itself applies."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from recipes import LAUNCHERS, ROOT, load

TOKEN = "~/.ray/auth_token"
every_launcher = pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)


def schema() -> Any:
    """What Ray ships."""
    return json.loads((resources.files("ray.autoscaler") / "ray-schema.json").read_text())


def test_there_is_one_for_each_place() -> None:
    assert {path.stem: load(path)["provider"]["type"] for path in LAUNCHERS} == {
        "aws": "aws",
        "gcp": "gcp",
        "on-premises": "local",
    }


@every_launcher
def test_valid_against_rays_schema(path: Path) -> None:
    jsonschema.validate(load(path), schema())


@every_launcher
def test_valid_with_rays_defaults_filled_in(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = prepare_config(load(path))
    validate_config(prepared)
    workers = prepared["available_node_types"]
    assert sum(kind["min_workers"] for kind in workers.values()) == 2  # all are there without being asked for
    # merged over Ray's defaults, which bind the dashboard to every interface
    assert "0.0.0.0" not in json.dumps(prepared)


@every_launcher
def test_the_token_goes_to_every_node_and_is_demanded_there(path: Path) -> None:
    config = load(path)
    assert config["file_mounts"][TOKEN] == TOKEN
    assert f"chmod 600 {TOKEN}" in config["setup_commands"]
    starts = [c for key in ("head", "worker") for c in config[f"{key}_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ~/glr_dist/.venv/bin/ray start" in command for command in starts)
    assert any("RAY_AUTH_MODE=token" in command and "~/.bashrc" in command for command in config["setup_commands"])


@every_launcher
def test_the_dashboard_listens_on_loopback(path: Path) -> None:
    (start,) = [command for command in load(path)["head_start_ray_commands"] if "ray start" in command]
    assert "--head" in start
    assert "--dashboard-host=127.0.0.1" in start


@every_launcher
def test_all_that_setup_needs_is_mounted(path: Path) -> None:
    mounts = load(path)["file_mounts"]
    mounted = {local: remote for remote, local in mounts.items() if remote != TOKEN}
    assert all((ROOT / local).exists() for local in mounted)
    assert all(remote == f"~/glr_dist/{local}" for local, remote in mounted.items())
    assert {"glr_dist", "scripts", "cluster", "pyproject.toml", "constraints.txt", "README.md"} <= set(mounted)
