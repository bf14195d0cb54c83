"""Settings: a dataclass from TOML, JSON or ``--set``, with dotted keys in every message.

A room's settings are a frozen dataclass in its own config.py, whose ``check`` refuses values outside their range; this file
knows how keys become fields and texts become values.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from glr_dist.errors import UserError, nearest


def override(setting: str) -> tuple[str, str]:
    """The two halves of one ``--set KEY=VALUE``; raises UserError when it is none."""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting!r}: write it as KEY=VALUE, for example --set noise.scale=2.0")
    return key.strip(), value.strip()


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in a tree of tables, as `tomllib` gives it."""
    *path, last = key.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise UserError(f"{key}: {name} is a value, not a table of keys")
    tree[last] = value


def build(cls: type, tree: Mapping[str, Any], prefix: str) -> Any:
    """A config dataclass from its keys, as TOML or JSON gives them; not checked yet.

    Args:
        cls: the dataclass.
        tree: its keys and values.
        prefix: what stands before the keys in error messages, such as ``model.``.

    Raises:
        UserError: for unknown keys and values of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in tree.items():
        if key not in hints:
            raise UserError(f"key {prefix + key!r}: unknown; {_meant(cls, key, prefix)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix + key} = {value!r}: is a table of keys; name one, such as {prefix + key}.…")
            values[key] = build(typing.cast(type, hints[key]), value, f"{prefix}{key}.")
        else:
            values[key] = _converted(prefix + key, value, hints[key])
    return cls(**values)


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a config: dotted, with its default and its line of the dataclass's docstring."""

    name: str
    default: Any
    text: str


def keys_of(cls: type, prefix: str = "") -> Iterator[Key]:
    """Every key of a config dataclass, in the order of its fields, those of its tables among them."""
    hints, texts = typing.get_type_hints(cls), _attributes(cls.__doc__ or "")
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from keys_of(typing.cast(type, hint), f"{prefix}{field.name}.")
        else:
            made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            yield Key(prefix + field.name, made, texts.get(field.name, ""))


def _attributes(doc: str) -> dict[str, str]:
    """What a docstring's section Attributes says of each field, in one line."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in inspect.cleandoc(doc).partition("Attributes:\n")[2].splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start is not None:
            name, text = start[1], start[2]
            found[name] = [text]
        elif name and line.startswith("     "):
            found[name].append(line.strip())
    return {key: " ".join(lines).replace("``", "") for key, lines in found.items()}


def _meant(cls: type, key: str, prefix: str) -> str:
    """Which key was meant by one that is unknown: one of the same name in a table below, or the nearest."""
    below = [each.name for each in keys_of(cls, prefix)]
    same = [name for name in below if name.rpartition(".")[2] == key]
    if same:
        return f"did you mean {' or '.join(map(repr, same))}?"
    return nearest(prefix + key, [prefix + name for name in typing.get_type_hints(cls)])


def conform(settings: Any, prefix: str = "") -> None:
    """Turn the fields of a frozen dataclass into plain values of their types, as TOML gives them: numpy's are none.

    Raises:
        UserError: for values of the wrong type, and such as a TOML file can't hold.
    """
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        key, value, hint = prefix + field.name, getattr(settings, field.name), hints[field.name]
        if not dataclasses.is_dataclass(hint):
            value = _converted(key, value, hint)
        elif isinstance(value, Mapping):
            value = build(typing.cast(type, hint), value, f"{key}.")
        elif isinstance(value, typing.cast(type, hint)):
            value = copy.copy(value)  # theirs stays as it is
            conform(value, f"{key}.")
        else:
            raise UserError(f"{key} = {value!r}: is a table of keys; name one, such as {key}.…")
        object.__setattr__(settings, field.name, value)


def _converted(key: str, value: Any, hint: Any) -> Any:
    """The value as the key's type; strings, as ``--set`` gives them, are read as TOML values first."""
    origin = typing.get_origin(hint)
    value = _plain(key, value)
    if isinstance(value, str) and hint is not str:
        text, value = value, _read(key, value, hint)
        if origin is tuple and not isinstance(value, list):  # --set model.hidden=50, --set estimator.sites=1
            value = [text if typing.get_args(hint)[0] is str else value]
    if origin is tuple and type(value) is typing.get_args(hint)[0]:  # one for all
        value = [value]
    if origin is tuple and isinstance(value, (list, tuple)):
        item = typing.get_args(hint)[0]
        return tuple(_converted(key, entry, item) for entry in value)
    if origin is dict and isinstance(value, dict):
        return {name: _option(f"{key}.{name}", entry) for name, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} = {value!r}: must be a finite number")
    expected = origin or hint
    if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{key} = {value!r}: must be {_described(hint)}")
    return value


def _plain(key: str, value: Any) -> Any:
    """Numbers of numpy and torch as Python's, paths as text."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        shown = str(value) if value.bit_length() < 100 else f"a number of {value.bit_length()} bits"
        raise UserError(f"{key} = {shown}: must be below 2^63")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{key} = {value!r}: is no valid text (UTF-8)") from error
    return value


def _option(key: str, value: Any) -> Any:
    """A value of a free table, whose keys have no types: whatever TOML holds that JSON holds too."""
    value = _plain(key, value)
    if isinstance(value, str):
        value = _read(key, value, dict)
    if isinstance(value, (list, tuple)):
        return [_option(key, entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key} = {value!r}: must be a finite number")
    if not isinstance(value, (bool, int, float, str)):
        raise UserError(f"{key} = {value!r}: must be a number, a text, true or false, or a list of such")
    return value


def _read(key: str, text: str, hint: Any) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (tomllib.TOMLDecodeError, RecursionError):
        if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] is str:
            return [part.strip() for part in text.split(",")]
        if typing.get_origin(hint) is tuple or "," in text:
            return _read(key, f"[{text}]", list) if not text.startswith("[") else text
        return text


def _described(hint: Any) -> str:
    if isinstance(hint, types.GenericAlias):
        if typing.get_origin(hint) is not tuple:
            return "a table"
        return f"a list of {'whole numbers' if typing.get_args(hint)[0] is int else 'texts'}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
