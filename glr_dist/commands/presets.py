"""The command ``glr-dist presets``."""

from __future__ import annotations

import click

from glr_dist.commands.completion import complete_presets


@click.command(short_help="List the presets, or print one.")
@click.argument("name", required=False, shell_complete=complete_presets)
def presets(name: str | None) -> None:
    """List the presets; with NAME, print its TOML, to start a file of your own from."""
    from glr_dist.commands.display import show_table
    from glr_dist.config import preset_names, preset_text

    if name is not None:
        click.echo(preset_text(name), nl=False)
        return
    show_table("Presets", {known: preset_text(known).splitlines()[0].lstrip("# ") for known in preset_names()})
