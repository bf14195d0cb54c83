"""The one exception that means "you asked for something that cannot be": it names the flag or field and the fix."""

from __future__ import annotations

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """The user's mistake, told in one line. The command line prints it and exits with code 2."""


def check_known(what: str, name: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless the name that a flag or field gives is one of the allowed ones."""
    names = list(allowed)
    if name not in names:
        raise UserError(f"{what} = {name!r}: unknown; {nearest(name, names)}")


def first_line(error: BaseException) -> str:
    """What another library says, for a message of one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """A text for a terminal: names come from folders, files and other people's jobs, and an escape sequence in one could
    rewrite the screen. What is no printable character is written as Python writes it; passwords in URIs are left out.
    """
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return re.sub(r"(?<=://)[^\s/@]*(:(?!\d+/)[^\s@]*)?@", "", plain)


def printable_all(value: Any) -> Any:
    """The same JSON value with all its texts, keys too, made `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable_all(key): printable_all(item) for key, item in value.items()}
    return [printable_all(item) for item in value] if isinstance(value, list | tuple) else value


def blamed(error: BaseException) -> str:
    """A foreign error in one line, with the place in the user's own code that raised it, where there is one.

    Their own are the frames outside installed packages and Python's library.
    """
    told = f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
    own = own_frames(error)
    return f"{told} ({own[-1].filename}:{own[-1].lineno}, in {own[-1].name})" if own else told


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where an error came through the user's own code, the outermost first."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not is_installed(frame.filename)]


def is_installed(file: str) -> bool:
    """Whether a file of Python code is this package's, another package's or Python's own."""
    foreign = (str(Path(__file__).parent), *sysconfig.get_paths().values(), "<")
    return file.startswith(foreign) or file.endswith(
        (".pyx", ".pxi")
    )  # what is compiled names no place of this machine


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The tail of an error message: the nearest right name, or all of them when none is near."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
