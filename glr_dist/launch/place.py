"""Click types of whatever names a place or a file, so that a job's command line can be told what to move by."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import click

from glr_dist.core.own_code import check_form, is_own, look
from glr_dist.store.places import absolute, is_uri


class Place(click.ParamType):  # type: ignore[type-arg]  # generic in the latest click alone
    """A local path or a URI.

    Args:
        part: the part of a text that is the place, its end, where more is written there (``NAME=RUN``); "" if none is.
        kept: it is written down where it outlives the command, as in a run's config: made absolute at once.
    """

    name = "place"

    def __init__(self, part: Callable[[str], str] = str, *, kept: bool = False) -> None:
        self.part = part
        self.kept = kept

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """The text as a command takes it."""
        return self.moved(value) if self.kept else value

    def moved(self, text: str) -> str:
        """The text with its place as it is called from any folder."""
        place = self.part(text)
        return text.removesuffix(place) + absolute(place)

    def local(self, text: str) -> str:
        """The absolute path that a text names; "" where it names a URI, or no place at all."""
        place = self.part(text)
        return "" if is_uri(place) else absolute(place)


class Config(click.ParamType):  # type: ignore[type-arg]
    """A preset's name, or a TOML file, which travels with a job."""

    name = "config"

    def file(self, text: str) -> str:
        """The file that a text names; "" for a preset."""
        return text if text.endswith(".toml") else ""


class Code(Config):
    """A class or function in a file, which travels with a job (``FILE.py:NAME``) or in a module (``MODULE:NAME``)."""

    name = "code"

    def __init__(self, key: str, others: Sequence[str] = ()) -> None:
        """``key``: of the config, for messages; ``others``: names that are no code."""
        self.key = key
        self.others = others

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """The text, once the file is there and has something of that name."""
        if is_own(value):
            look(self.key, value)
        elif not self.others:
            check_form(self.key, value)
        return value

    def file(self, text: str) -> str:
        """The file that a text names; "" where it names a module, or no code."""
        place = text.rpartition(":")[0]
        return place if place.endswith(".py") else ""


class Data(Place):
    """A named data set; or where data lie; or a function that makes some, whose file travels with a job."""

    name = "data"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(lambda text: "" if text in names or _makes(text) else text, kept=True)
        self.names = names

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """The text, with its place made absolute, once what it names is there."""
        if _makes(value):
            look("data.factory (--data)", value)
        return super().convert(value, parameter, context)

    def file(self, text: str) -> str:
        """The file with the function that a text names; "" where it names none."""
        return text.rpartition(":")[0] if _makes(text) and text.rpartition(":")[0].endswith(".py") else ""


def _makes(text: str) -> bool:
    """Whether a text is ``FILE.py:NAME`` or ``MODULE:NAME``."""
    return is_own(text) and not is_uri(text) and not os.path.exists(text)  # noqa: PTH110  may be no path at all


PLACE = Place()
KEPT_PLACE = Place(kept=True)
