"""Places as users type them: a path on this machine, or a URI. Imports next to nothing, for the command line."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path


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
    """A local folder that is not there yet: ``STEM-DATE-TIME``, with a number behind it where that is taken."""
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(path for path in (name, *(f"{name}-{i}" for i in range(2, 1000))) if not Path(path).exists())
