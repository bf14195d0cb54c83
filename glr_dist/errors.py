"""The one exception that means "you asked for something that cannot be": it names the flag or field and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The tail of an error message: the nearest right name, or all of them when none is near."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
