"""The command ``glr-dist config``."""

from __future__ import annotations

import click

from glr_dist.commands.completion import complete_keys
from glr_dist.errors import UserError, nearest


@click.command(short_help="List the keys of a config, or tell of one.")
@click.argument("key", required=False, shell_complete=complete_keys)
def config(key: str | None) -> None:
    """List every key of a config with its default; with KEY, or the name of a table such as noise, tell what it is.

    Keys are the same in a TOML file and in --set KEY=VALUE.
    """
    from glr_dist.commands.display import show_table
    from glr_dist.config import Config
    from glr_dist.settings import keys_of

    every = list(keys_of(Config))
    chosen = [each for each in every if key is None or each.name == key or each.name.startswith(f"{key}.")]
    if key is not None and not chosen:
        same = [each.name for each in every if each.name.rpartition(".")[2] == key]
        hint = f"did you mean {' or '.join(map(repr, same))}?" if same else nearest(key, [each.name for each in every])
        raise UserError(f"key {key!r}: unknown; {hint}")
    if len(chosen) == 1:
        (only,) = chosen
        click.echo(f"{only.name} = {_shown(only.default)}\n{only.text}")
        return
    show_table("Keys", {f"{each.name} = {_shown(each.default)}": each.text for each in chosen})


def _shown(value: object) -> str:
    """A default as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return "{}" if isinstance(value, dict) else str(value)
