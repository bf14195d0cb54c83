"""How a run is described on a command line: the options that ``train`` and ``check`` share, and their config keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from glr_dist.commands.terminal import absolute
from glr_dist.errors import UserError

DEFAULT_PRESET = "digits-threshold"
_KEYS = {  # option -> config key
    "data_root": "data.root",
    "workers": "engine.workers",
    "reconstructors": "engine.reconstructors",
    "generators": "engine.generators",
    "gpus_per_worker": "engine.gpus_per_worker",
    "augment": "augment.attack",
    "augment_share": "augment.share",
    "augment_epsilon": "augment.epsilon",
    "surrogate": "augment.surrogate",
    "method": "method",
    "loss": "loss",
    "seed": "seed",
    "steps": "steps",
    "evaluate_every": "evaluate_every",
    "journal": "journal",
    "tensorboard": "tensorboard",
}

settings_option = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Any config key; repeatable."
)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the preset, and the options that say where the data is and who does the work."""
    for option in (
        click.option("--gpus-per-worker", type=float, help="GPUs of each worker; may be a fraction."),
        click.option("--generators", type=int, help="Actors for adversarial rows; 0: made where they are needed."),
        click.option("--reconstructors", type=int, help="Reconstructor actors; 0: reconstruct in the driver."),
        click.option("--workers", type=int, help="Evaluators; 0: in this process, without Ray; -1: all CPUs."),
        click.option(
            "--data-root", metavar="DIR", help="Folder of the data, as every node sees it; downloaded when left out."
        ),
        click.argument("preset", metavar="[PRESET|FILE.toml]", required=False),
    ):
        command = option(command)
    return command


def config_overrides(options: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Config keys and values, from named options and from ``--set``.

    Args:
        options: by the name of their parameter; None where the option was left out.
        settings: each "KEY=VALUE".

    Returns:
        Values by dotted key; the folders of data and surrogate as absolute paths.

    Raises:
        UserError: a setting is no KEY=VALUE, or its key is given twice.
    """
    from glr_dist.settings import override

    found = {_KEYS[option]: value for option, value in options.items() if value is not None}
    for setting in settings:
        key, value = override(setting)
        if key in found:
            raise UserError(f"--set {setting}: {key} is given twice; leave one out")
        found[key] = value
    for key in ("data.root", "augment.surrogate"):
        if found.get(key) and "://" not in found[key]:
            found[key] = absolute(found[key])  # the run may be resumed from another folder
    return found
