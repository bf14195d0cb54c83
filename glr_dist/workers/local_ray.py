"""A Ray for this process alone: nobody else on the machine or the network can reach it or read what it writes.

Ray's own defaults for a local cluster listen on all addresses, behind a token in a file that others may read.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from glr_dist.errors import UserError, first_line

_LONGEST = (
    40  # characters of a folder in which the names of Ray's sockets still fit into the 107 that a socket may have
)
_OWN_FOLDER = 0x200  # CLONE_FS: the thread's current folder is its own from then on


@contextmanager
def local_ray() -> Iterator[None]:
    """Within: connected to a Ray that was started here, on loopback, with a token and a session folder of this user's own.

    Raises:
        UserError: when it can't be started.
    """
    keep_to_oneself()
    # Ray lets workers stand back behind all else on the machine (niceness 15); a step waits for the slowest of them
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    private_token()
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="glr_dist_", dir=parent if len(parent) <= _LONGEST else "/tmp"))  # mode 0700
    try:
        with elsewhere(folder):
            try:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    _temp_dir=str(folder / "ray"),
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"Ray can't be started on this machine: {first_line(error)}; --workers 0 does without"
                ) from error
        try:
            _warn_of_others(ray.util.get_node_ip_address())
            yield
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def private_token() -> None:
    """See to it that nobody else can read the token that a Ray started here will demand; makes one where there is none."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    try:
        if not named:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileExistsError):
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_hex(32))
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.chmod(0o600)
    except OSError as error:
        raise UserError(
            f"RAY_AUTH_TOKEN_PATH: the token in {path} can't be kept from others ({first_line(error)}); name a file of"
            " your own, or give --workers 0"
        ) from error


@contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    """Within: the current folder is another, unless Python itself looks for modules here.

    Ray puts the current folder before all else where its workers look for modules: a ``torch.py`` lying there would be run.
    """
    here = Path.cwd()
    if "" in sys.path or str(here) in sys.path:
        yield
        return
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def apart() -> Iterator[bool]:
    """Within: this thread has a current folder of its own, so that Ray may be started beside a main thread that works on.

    Yields:
        Whether it has: only Linux knows such a thing.
    """
    own = False
    with suppress(OSError, AttributeError):
        own = ctypes.CDLL(None, use_errno=True).unshare(_OWN_FOLDER) == 0
    logger = logging.getLogger("ray._private.worker")
    logger.addFilter(_of_signals)
    try:
        yield own
    finally:
        logger.removeFilter(_of_signals)


def _of_signals(record: logging.LogRecord) -> bool:
    """Not what Ray says of signals, which the main thread sees to."""
    return "SIGTERM handler is not set" not in record.getMessage()


def keep_to_oneself() -> None:
    """Tell Ray, which looks when it is imported, that no cluster reaches this machine, and that it shall want a token."""
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback, as it does by itself on macOS
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _warn_of_others(address: str) -> None:
    """Say so when Ray was imported too early, and so listens to the network."""
    if not ip_address(address).is_loopback:
        logging.getLogger(__name__).warning(
            "Ray listens on %s, which others may reach: it was imported before this run began. Import it later, or set"
            " RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0",
            address,
        )
