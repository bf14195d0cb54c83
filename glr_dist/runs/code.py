"""The copy of the user's own code that a run keeps: code/model/, code/loss/ and code/data/ in its folder.

Each file's SHA-256 stands in the run's card; what was changed since is not run.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from glr_dist.config import Config
from glr_dist.core.own_code import is_own, sources
from glr_dist.errors import UserError
from glr_dist.store.storage import Storage

FOLDER = "code"


def named_code(config: Config) -> dict[str, str]:
    """The code of the user's own that a config names: what it is for -> how it is named."""
    found = {"model": config.model.factory if config.model.kind == "factory" else ""}
    found["loss"] = config.loss if is_own(config.loss) else ""
    found["data"] = config.data.factory if config.data.name == "factory" else ""
    return {part: text for part, text in found.items() if text}


def gathered(config: Config, given: Mapping[str, object], kept: Path | None = None) -> dict[str, bytes]:
    """The files of the code that a config names and that was imported, by their place below code/.

    Without what Python code gave in its place (``given``: model, loss, data; None where it did not).
    """
    files = {}
    for part, text in named_code(config).items():
        if given.get(part) is None:
            found = sources(text, kept and kept / part)
            files.update({f"{part}/{name}": content for name, content in found.items()})
    return files


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 (hex) of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def kept_code(run: Storage, said: Mapping[str, str]) -> Path | None:
    """The local folder with a run's copy of the code that its card speaks of (file -> SHA-256); None: it has none.

    Raises:
        UserError: a file was changed.
    """
    files = {}
    for name, sha256 in said.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{run}: its card names code outside the run's folder: {name!r}")
        try:
            files[name] = run.read(f"{FOLDER}/{name}")
        except FileNotFoundError:
            continue
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            place = run.folder(f"{FOLDER}/{name}")
            raise UserError(
                f"{place} was changed since the run began; put that back, or start a new run with your file"
            )
    if not files:
        return None
    if run.local:
        return run.path(FOLDER)
    copy = Path(tempfile.mkdtemp(prefix="glr-dist-code-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for name, content in files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    return copy
