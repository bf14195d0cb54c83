"""The command that a job runs: checked before anything is sent, and with folders that mean the same on the cluster.

A job's current folder is an unpacked archive that the cluster deletes some time after: a relative ``--run-dir`` would be
lost with it, and a relative ``--data-root`` would not be found there. Such folders become absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from glr_dist.commands.evaluate import name_and_place
from glr_dist.errors import UserError, nearest

_FOLDERS = (  # parameters of commands that name one, or several
    *("run_dir", "resumed", "data_root", "run", "out"),
    *("checkpoints", "surrogate", "surrogates", "samples"),
)
_HERE_ONLY = ("submit", "jobs")


@dataclass(frozen=True, kw_only=True)
class Entrypoint:
    """A checked command.

    Attributes:
        command: ``glr-dist`` and its arguments.
        run: the run's folder or URI, if the command makes or continues one.
        apart: local folders that it names and that stay where they are.
        config: the TOML file that must travel with it, relative to the current folder; "" if none.
    """

    command: tuple[str, ...]
    run: str
    apart: tuple[Path, ...]
    config: str


def make_entrypoint(arguments: Sequence[str], folder: Path) -> Entrypoint:
    """Check a command line of glr-dist and make its folders absolute.

    Args:
        arguments: what would follow ``glr-dist`` on a node of the cluster.
        folder: the current folder, which travels with the job.

    Raises:
        UserError: for a command that can't be a job, or a TOML file that can't travel.
        click.UsageError: for arguments that the command refuses.
    """
    if not arguments:
        raise UserError("submit: nothing to run; give a command, such as: glr-dist submit -- train digits-threshold")
    name, *rest = arguments
    command = _command(name)
    context = command.make_context(f"glr-dist {name}", list(rest), resilient_parsing=False)
    found = {key: value for key, value in context.params.items() if isinstance(value, str) and value}
    apart = []
    for parameter in command.params:
        if parameter.name not in _FOLDERS:
            continue
        given = context.params[parameter.name]
        for value in given if isinstance(given, tuple) else (given,):
            group, place = name_and_place(value) if parameter.name == "checkpoints" else ("", value or "")
            if place and not _is_uri(place):
                found[parameter.name] = absolute = _absolute(place, folder)
                rest = _replaced(rest, parameter, value, f"{group}={absolute}" if group else absolute)
                apart.append(Path(absolute))
    run = found.get("run_dir") or found.get("resumed") or ""
    if name == "train" and not run:
        run = _absolute(_new_run(found.get("preset")), folder)
        rest = ["--run-dir", run, *rest]
    if name == "attack" and not found.get("out"):
        raise UserError("submit -- attack: a job's own folder is deleted with what it wrote; give --out DIR")
    config = ""
    preset = found.get("preset", "")
    if preset.endswith(".toml"):
        config = _inside(preset, folder)
        rest = [config if argument == preset else argument for argument in rest]
    return Entrypoint(command=("glr-dist", name, *rest), run=run, apart=tuple(apart), config=config)


def _command(name: str) -> click.Command:
    from glr_dist.cli import main

    context = click.Context(main)
    known = [each for each in main.list_commands(context) if each not in _HERE_ONLY]
    command = main.get_command(context, name) if name in known else None
    if command is None:
        raise UserError(f"submit -- {name}: no command that a job can run; {nearest(name, known)}")
    return command


def _replaced(arguments: Sequence[str], parameter: click.Parameter, old: str, new: str) -> list[str]:
    """The arguments with one parameter's value replaced."""
    result = list(arguments)
    for place, argument in enumerate(arguments):
        if isinstance(parameter, click.Option):
            option, equals, value = argument.partition("=")
            if option in parameter.opts and equals and value == old:
                result[place] = f"{option}={new}"
            elif argument == old and place and arguments[place - 1] in parameter.opts:
                result[place] = new
        elif argument == old:
            result[place] = new
            break
    return result


def _new_run(preset: str | None) -> str:
    from glr_dist.commands.options import DEFAULT_PRESET
    from glr_dist.engine.session import new_run_name

    return new_run_name(Path(preset or DEFAULT_PRESET).stem)


def _inside(file: str, folder: Path) -> str:
    """A file's path relative to the folder that travels."""
    path = Path(_absolute(file, folder))
    if not path.is_file():
        raise UserError(f"{file}: no such file")
    if not path.is_relative_to(folder):
        raise UserError(f"{file}: lies outside the current folder, which travels with the job; copy it into {folder}")
    return path.relative_to(folder).as_posix()


def _is_uri(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / os.path.expanduser(path))  # noqa: PTH111  with a user's name, too
