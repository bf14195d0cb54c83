"""Code of the user's own that a config names: ``FILE.py:NAME`` or ``MODULE:NAME``, a class or a function.

A run keeps a copy of it, where evaluations, replays and audits of the run find it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from glr_dist.core.found_here import files_of, import_file, import_named
from glr_dist.errors import UserError, blamed, first_line, nearest

FORM = "FILE.py:NAME or MODULE:NAME"


def is_own(text: str) -> bool:
    """Whether a text names code and not one of the package's own losses, data sets and the like."""
    return ":" in text or text.endswith(".py")


def check_form(key: str, text: str) -> None:
    """Raise UserError for a text that has not the form; nothing is looked for yet."""
    place, _, name = text.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(f"{key} = {text!r}: write it as {FORM}, such as my_net.py:Net")


def look(key: str, text: str) -> None:
    """Raise UserError for a file that is not there, or that has nothing of that name; nothing is imported."""
    place, _, name = text.rpartition(":")
    file = Path(place or text).expanduser()
    if file.suffix != ".py":
        check_form(key, text)
        return
    if not file.is_file():
        others = sorted(str(other) for other in file.parent.glob("*.py")) if file.parent.is_dir() else []
        hint = nearest(str(file), others) if others else "no file of that kind is there"
        raise UserError(f"{key} = {text!r}: there is no file {str(file)!r}; {hint}")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{key} = {text!r}: {file}{line} is no Python: {first_line(error)}") from None
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    if not place:
        some = " or ".join(f"{file}:{each}" for each in names[:3]) or f"{file}:NAME"
        raise UserError(f"{key} = {text!r}: name the class or function in it: {some}")
    check_form(key, text)
    given = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)} | {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    if name not in names and name not in given and "*" not in given:
        hint = nearest(name, names) if names else "it has no class or function"
        raise UserError(f"{key} = {text!r}: {file} has no {name!r}; {hint}")


def refuse_untrusted(named: Iterable[str], place: str, trust_model: bool) -> None:
    """Raise UserError for code that a run or checkpoint at ``place`` names, unless it is trusted.

    Else code would be imported because a file names it; the user's own command line may name any.
    """
    for text in named if not trust_model else ():
        raise UserError(
            f"{place}: names {text!r}, code that would be imported and run; give --trust-model if you trust it"
        )


def own(key: str, text: str, kept: Path | None = None) -> Any:
    """What a config's key names, imported.

    Args:
        key: dotted, for messages.
        text: ``FILE.py:NAME`` or ``MODULE:NAME``.
        kept: the folder of a run's copy of the code; what is not in there is looked for where the text says.

    Raises:
        UserError: there is no such file, module or name, or it raises.
    """
    check_form(key, text)
    place, _, name = text.rpartition(":")
    try:
        module = _module(place, kept)
        return getattr(module, name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(f"{key} = {text!r}: {first_line(error)}") from error
    except OSError as error:
        raise UserError(f"{key} = {text!r}: {error.strerror or error}") from error
    except Exception as error:  # the user's own module may raise anything
        raise UserError(f"{key} = {text!r}: can't be imported: {blamed(error)}") from error


def sources(text: str, kept: Path | None = None) -> dict[str, bytes]:
    """The files of code that was imported, and of what it imports from its folder, by their place in that folder."""
    module = _module(text.rpartition(":")[0], kept)
    return {name: path.read_bytes() for name, path in sorted(files_of(module).items())}


def called(key: str, text: str, thing: Any, offered: Mapping[str, Any]) -> Any:
    """Call a class or function with what it asks for: nothing, or all that is offered, by name or in the order given.

    Raises:
        UserError: it asks for something else, or raises.
    """
    if not callable(thing):
        raise UserError(f"{key} = {text!r}: is of type {type(thing).__name__}; name a class or a function")
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()  # built in: it tells nothing of what it asks for
    plain = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    wanted = [each.name for each in plain if each.default is each.empty]
    named = {each.name: offered[each.name] for each in plain if each.name in offered}
    by_name = set(wanted) <= set(named) and not any(each.kind is each.POSITIONAL_ONLY for each in plain)
    if not by_name and len(wanted) != len(offered):
        takes = f"({', '.join(wanted)})"
        instead = f"nothing or ({', '.join(offered)})" if offered else "nothing"
        raise UserError(
            f"{key} = {text!r}: takes {takes}, and is called with {instead}; give the others default values"
        )
    shown = ", ".join(f"{name}={value!r}" for name, value in (named if by_name else offered).items())
    try:
        return thing(**named) if by_name else thing(*offered.values())
    except Exception as error:
        raise UserError(f"{key} = {text!r}: {_short(text)}({shown}) raised {blamed(error)}") from error


def _short(text: str) -> str:
    return text.rpartition(":")[2]


def _module(place: str, kept: Path | None) -> Any:
    if place.endswith(".py"):
        path = Path(place).expanduser()
        copy = None if kept is None else kept / path.name
        return import_file(copy if copy is not None and copy.is_file() else path)
    if kept is not None and kept.is_dir() and _offers(kept, place):
        return import_named(place, kept)
    return import_named(place)


def _offers(folder: Path, module: str) -> bool:
    path = folder.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
