"""Places to store things: a local folder, one reached through pyarrow.fs only, and a very small disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from glr_dist.store.storage import Storage


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder on the local file system, and on one that is not."""
    if request.param == "local":
        return Storage.at(tmp_path / "run")
    tree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    return Storage(fs=tree, root="run", uri="test://bucket/run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)
