"""Places as users type them: a path on this machine, or a URI. Imports next to nothing, for the command line."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glr_dist.errors import UserError


def is_uri(place: str) -> bool:
    """Whether a place is a URI, such as ``s3://bucket/run``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place) is not None


def without_password(uri: str) -> str:
    """A URI without its user and password; also where a slash in the password was not written as %2F."""
    return re.sub(r"(?<=://)([^/@]*:(?!\d+/)[^?]*|[^/@]*)@", "", uri)


def absolute(place: str) -> str:
    """A place as it is called from any folder: ``~`` expanded; a URI stays, and so does ""."""
    if not place or is_uri(place):
        return place
    return os.path.abspath(os.path.expanduser(place))  # noqa: PTH100,PTH111  Path would keep ".."


def dated(stem: str) -> str:
    """A name that says when: ``STEM-DATE-TIME``."""
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


@contextmanager
def claimed(stem: str) -> Iterator[str]:
    """Within: a new local folder that nobody else has, `dated`, with a number behind it where that is taken.

    Folders that are still empty in the end are removed again.

    Raises:
        UserError: no folder can be made there.
    """
    name = dated(stem)
    missing = [folder for folder in Path(name).parents if not folder.exists()]
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        mine = next(place for place in (name, *(f"{name}-{i}" for i in range(2, 10**6))) if _made(Path(place)))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"--run-dir: cannot make the folder {name}: {reason}; name one with --run-dir") from error
    try:
        yield mine
    finally:
        with suppress(OSError):
            for folder in (Path(mine), *missing):
                folder.rmdir()


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
