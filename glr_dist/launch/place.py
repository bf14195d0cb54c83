"""Click types of whatever names a place or a file, so that a job's command line can be told what to move by."""

from __future__ import annotations

from collections.abc import Callable

import click

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


PLACE = Place()
KEPT_PLACE = Place(kept=True)
