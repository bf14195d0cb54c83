"""Files and folders of this machine put in place as a whole: written under another name, synced, renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

from glr_dist.errors import UserError

TEMP, LOCK = ".tmp-", ".lock-"  # what such names begin with is no part of what is stored
RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100


def beside(final: Path) -> Path:
    """A temporary name on the same file system."""
    return final.with_name(f"{TEMP}{secrets.token_hex(4)}-{final.name}")


SMALL_BYTES = 16 * 2**20  # most of a file that describes something, such as meta.json


def read_regular(path: Path, most: int | None = None) -> bytes:
    """All bytes, ``most`` at most, of a regular file: a device gives bytes without end, a pipe none for ever.

    Raises:
        UserError: it is something else, or larger.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise UserError(f"cannot read {path}: it is no regular file")
        if most is not None and status.st_size > most:
            raise UserError(too_large(str(path), status.st_size, most))
        return file.read()


def too_large(place: str, size: int, most: int) -> str:
    """Why a file is not read."""
    return f"{place} has {size:,} bytes, and should have {most:,} at most: it is not what this program wrote"


def write_synced(path: Path, data: bytes) -> None:
    """Write a file's bytes to the disk itself."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all in it; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_in_place(temp: Path, final: Path) -> None:
    """Rename a folder over another; with a short gap where the kernel cannot exchange names."""
    if not final.exists():
        temp.rename(final)
    elif not exchange(temp, final):
        aside = beside(final)
        final.rename(aside)
        temp.rename(final)
        remove(aside)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system has no such call."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    if call is None:
        return False
    return bool(call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
