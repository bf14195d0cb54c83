"""The command that a job runs: checked before anything is sent, and with places that mean the same on the cluster.

A job's current folder is an unpacked archive that the cluster deletes some time after: a relative ``--run-dir`` would be
lost with it, and a relative ``--data-root`` would not be found there. Every parameter that names a place is told by its
type, `glr_dist.launch.place.Place`, and becomes absolute; the command line is then written anew from its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from glr_dist.config import preset_text
from glr_dist.errors import UserError, nearest
from glr_dist.launch.place import Config, Data, Place
from glr_dist.store.places import absolute

_HERE_ONLY = ("submit", "jobs")


@dataclass(frozen=True, kw_only=True)
class Entrypoint:
    """A checked command: ``glr-dist`` and its arguments."""

    command: tuple[str, ...]
    apart: tuple[Path, ...]
    """Local places that it names and that stay where they are."""
    files: tuple[str, ...]
    """Files that must travel with it, relative to the current folder."""


def make_entrypoint(
    group: click.Group,
    arguments: Sequence[str],
    folder: Path,
    results: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
) -> Entrypoint:
    """Check a command line of glr-dist and make its places absolute.

    Args:
        group: the commands.
        arguments: what would follow ``glr-dist`` on a node of the cluster.
        folder: the current folder, which travels with the job.
        results: from a command and all its parameters, those that say where its results go and were left out.

    Raises:
        UserError: for a command that can't be a job, or a file that can't travel.
        click.UsageError: for arguments that the command refuses.
    """
    names, command, rest = _command(group, arguments)
    context = command.make_context(f"glr-dist {' '.join(names)}", rest)
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    given |= results(" ".join(names), context.params)
    apart: list[Path] = []
    files: list[str] = []
    for parameter in command.params:
        kind, name = parameter.type, str(parameter.name)
        if isinstance(kind, Config | Data) and (file := kind.file(given.get(name) or "")):
            files.append(_inside(file, folder))
            given[name] = files[-1] + given[name].removeprefix(file)
        elif type(kind) is Config and given.get(name):
            preset_text(given[name])  # refuses an unknown one here, not on the cluster
        elif isinstance(kind, Place):
            texts = _several(given.get(name))
            apart += [Path(path) for path in map(kind.local, texts) if path]
            given |= {name: tuple(map(kind.moved, texts))} if texts else {}
    line = ("glr-dist", *names, *_written(command, given))
    return Entrypoint(command=line, apart=tuple(apart), files=tuple(files))


def _command(group: click.Group, arguments: Sequence[str]) -> tuple[list[str], click.Command, list[str]]:
    """The names of a command and of the groups above it, the command, and its own arguments."""
    names: list[str] = []
    command: click.Command = group
    while isinstance(command, click.Group):
        typed = " ".join(["submit --", *names])
        known = [name for name in command.commands if name not in _HERE_ONLY]
        if len(arguments) == len(names):
            example = "glr-dist submit -- train digits-threshold"
            raise UserError(f"{typed}: nothing to run; give a command, such as: {example}")
        name = arguments[len(names)]
        if name not in known:
            raise UserError(f"{typed} {name}: no command that a job can run; {nearest(name, known)}")
        names.append(name)
        command = command.commands[name]
    return names, command, list(arguments[len(names) :])


def _written(command: click.Command, given: Mapping[str, Any]) -> Iterator[str]:
    """The parameters of a command as they are typed: options first."""
    texts: list[str] = []
    for parameter in command.params:
        for value in _several(given.get(str(parameter.name))):
            if isinstance(parameter, click.Argument):
                texts.append(str(value))
            elif isinstance(value, bool):
                yield (parameter.opts if value else parameter.secondary_opts)[0]
            else:
                yield from (parameter.opts[0], str(value))
    if any(text.startswith("-") for text in texts):
        yield "--"
    yield from texts


def _several(value: Any) -> tuple[Any, ...]:
    """The values of a parameter, of which there may be none, one or many."""
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)


def _inside(file: str, folder: Path) -> str:
    """A file's path relative to the folder that travels."""
    path = Path(absolute(file))
    if not path.is_file():
        raise UserError(f"{file}: no such file")
    if not path.is_relative_to(folder):
        raise UserError(f"{file}: lies outside the current folder, which travels with the job; copy it into {folder}")
    return path.relative_to(folder).as_posix()
