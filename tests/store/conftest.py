"""Places to store things."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs
import pytest

from glr_dist.store.storage import Storage


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder on the local file system, and on one that is reached through pyarrow.fs only."""
    if request.param == "local":
        return Storage.at(tmp_path / "run")
    tree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    return Storage(fs=tree, root="run", uri="test://bucket/run")
