"""Builds the documentation: scripts/docs_pages, and a page of every config key from the settings' own docstrings.

scripts/docs [--out DIR]
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.commands.build import build
from mkdocs.config import load_config

from glr_dist.config import Config

HERE = Path(__file__).parent


def keys(settings: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted key, default, what it is) of every key of a table, its own tables' after it."""
    told = dict(described(settings))
    hints = typing.get_type_hints(settings)
    tables = []
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[field.name]):
            tables.append((hints[field.name], f"{prefix}{field.name}."))
            continue
        missing = field.default is dataclasses.MISSING
        default = field.default_factory() if missing and callable(field.default_factory) else field.default
        yield prefix + field.name, shown(default), told[field.name]
    for table, above in tables:
        yield from keys(table, above)


def shown(value: object) -> str:
    """A default as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"' if isinstance(value, str) else str(value)


def described(settings: type) -> Iterator[tuple[str, str]]:
    """What the docstring of a dataclass says of each of its fields."""
    _, _, attributes = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    for entry in re.split(r"\n(?=    \w+: )", "\n" + attributes.partition("\n\n")[0]):
        name, colon, text = entry.strip().partition(": ")
        if colon:
            yield name, " ".join(text.split())


def page_of_keys() -> str:
    """Every key in a table, in Markdown."""
    rows = [f"| `{key}` | `{default}` | {text.replace('|', chr(92) + '|')} |" for key, default, text in keys(Config)]
    head = "# Every key\n\nIn a TOML file, by `--set KEY=VALUE`, or as `Config.from_preset(name, **{KEY: VALUE})`.\n\n"
    return head + "| key | default | what it is |\n|---|---|---|\n" + "\n".join(rows).replace("``", "`") + "\n"


def make(out: Path) -> None:
    """Build the site; an unknown link is an error."""
    with tempfile.TemporaryDirectory() as scratch:
        pages = Path(scratch) / "pages"
        shutil.copytree(HERE / "docs_pages", pages)
        (pages / "keys.md").write_text(page_of_keys())
        config = load_config(str(HERE / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(out), strict=True)
        build(config)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("site"), show_default=True, help="The site's folder."
)
def main(out: Path) -> None:
    """Build the documentation's site."""
    make(out.absolute())
    click.echo(f"open {out}/index.html")


if __name__ == "__main__":
    main()
