"""What the shell completes: presets, methods, losses, attacks and keys; imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from glr_dist.core.config import LOSSES, METHODS

ATTACKS = (  # as `glr_dist.attacks.attack.ATTACKS` has them, which needs torch
    *("fgsm", "pgd", "bpda-pgd", "eot-pgd", "random-signs", "hopskipjump", "square", "exact", "intervals"),
)


def complete_presets(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Presets, and files beside them."""
    from glr_dist.config import preset_names

    return [*_beginning(preset_names(), typed), CompletionItem(typed, type="file")]


def complete_methods(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Training methods."""
    return _beginning(METHODS, typed)


def complete_losses(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Losses of this package, and files with one's own."""
    return [*_beginning(LOSSES, typed), CompletionItem(typed, type="file")]


def complete_attacks(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Attacks."""
    return _beginning(ATTACKS, typed)


def complete_keys(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Keys of a config."""
    from glr_dist.config import Config
    from glr_dist.settings import keys_of

    return _beginning((key.name for key in keys_of(Config)), typed)


def complete_settings(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """KEY= of ``--set``."""
    return [CompletionItem(f"{item.value}=") for item in complete_keys(context, parameter, typed)]


def _beginning(names: Iterable[str], typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(typed)]
