"""Places as users type them: a path on this machine, or a URI. Imports next to nothing, for the command line."""

from __future__ import annotations

import os
import re


def is_uri(place: str) -> bool:
    """Whether a place is a URI, such as ``s3://bucket/run``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place) is not None


def absolute(place: str) -> str:
    """A place as it is called from any folder: ``~`` expanded; a URI stays, and so does ""."""
    if not place or is_uri(place):
        return place
    return os.path.abspath(os.path.expanduser(place))  # noqa: PTH100,PTH111  Path would keep ".."
