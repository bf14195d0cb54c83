"""The run's folder: made once, never over another, opened again to resume or evaluate."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from glr_dist.errors import UserError
from glr_dist.store.storage import Storage

CONFIG = "config.toml"


def create_run(uri: str | Path, config_toml: str) -> Storage:
    """Make a run's folder with its configuration in it.

    Args:
        uri: a local path or URI; nothing, or an empty folder, may be there.
        config_toml: the whole configuration.

    Raises:
        UserError: something is there already, or nothing can be written there.
    """
    run = Storage.at(uri)
    try:
        if not _claimed(run):
            raise UserError(f"--run-dir {run} exists and is not empty: choose another, or continue it with --resume")
        try:
            run.write(CONFIG, config_toml.encode())
        except UserError:
            run.delete(CONFIG)
            raise
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"--run-dir {run} cannot be written: {_first_line(error)}") from error
    return run


def refuse_taken(uri: str | Path) -> None:
    """Refuse a place for a new run where something is already; `create_run` does so too, but later.

    Args:
        uri: a local path or URI.

    Raises:
        UserError: something is there.
    """
    run = Storage.at(uri)
    if run.list() or (run.local and run.path("").is_file()):
        raise UserError(f"--run-dir {run} exists and is not empty: choose another, or continue it with --resume")


def open_run(uri: str | Path) -> tuple[Storage, str]:
    """Open an existing run.

    Args:
        uri: the run's folder, a local path or URI.

    Returns:
        The folder, and its configuration as TOML.

    Raises:
        UserError: there is no run.
    """
    run = Storage.at(uri)
    try:
        return run, run.read(CONFIG).decode()
    except FileNotFoundError as error:
        state = f"it has no {CONFIG}" if run.exists("") else "there is no such folder"
        raise UserError(f"{run} is not a run: {state}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{run.folder(CONFIG)} is damaged: it is not UTF-8 text") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"the run {run} cannot be read: {_first_line(error)}") from error


def _claimed(run: Storage) -> bool:
    """Whether the folder is ours: it was empty, and of two that start at once this one came first."""
    with run.explained("", "write"):
        if run.list() or (run.local and run.path("").is_file()):
            return False
        if run.local:
            run.path("").mkdir(parents=True, exist_ok=True)
            try:
                run.path(CONFIG).open("xb").close()
            except FileExistsError:
                return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
