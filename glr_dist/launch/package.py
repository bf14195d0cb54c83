"""What travels with a job: the current folder without data, runs, caches and hidden files, as one small zip archive.

Hidden files stay behind because that is where environments, repositories and secrets (a token, a key) lie. The archive is
the same for the same files, so a cluster that has it already is sent nothing.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from glr_dist.errors import UserError

LIMIT_BYTES = 50 * 10**6  # Ray's dashboard refuses 100 MiB, and every node unpacks a copy
_NEVER = ("__pycache__", "node_modules", "venv", "*.egg-info", "*.pyc")
_NEVER_ON_TOP = ("build", "dist", "runs", "wandb", "mlruns")
_MOST_FILES = 10_000  # somebody's home, or the root of a disk
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive knows


def pack_folder(
    folder: Path,
    archive: Path,
    *,
    exclude: Sequence[str] = (),
    apart: Collection[Path] = (),
    limit: int = LIMIT_BYTES,
) -> list[str]:
    """Write the files of a folder that a job needs into a zip archive.

    Args:
        folder: the folder that will be the job's current one.
        archive: the zip file to write.
        exclude: glob patterns of paths (relative to ``folder``) or names to leave out.
        apart: files and folders that stay behind, such as the data's and the run's.
        limit: bytes that may travel.

    Returns:
        The packed files, relative to ``folder``, sorted.

    Raises:
        UserError: when they take more than ``limit``; names what takes most.
    """
    found = _files(folder, "", exclude, {path.resolve() for path in apart})
    try:
        files = sorted(islice(found, _MOST_FILES + 1))
        _refuse_large(folder, files, limit)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot travel with a job: {error}; leave that out with --exclude"
        ) from error
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name in files:
            source = folder / name
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(source, os.X_OK) else 0o644) << 16
            out.writestr(entry, source.read_bytes())
    return files


def _files(folder: Path, below: str, exclude: Sequence[str], apart: Collection[Path]) -> Iterator[str]:
    """The files under ``folder / below``; links to folders are not followed, they tend to lead to data."""
    for entry in os.scandir(folder / below):
        name = f"{below}{entry.name}"
        if _stays(entry, name, exclude) or Path(entry.path).resolve() in apart:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder, f"{name}/", exclude, apart)
        elif entry.is_file():
            yield name


def _stays(entry: os.DirEntry[str], name: str, exclude: Sequence[str]) -> bool:
    """Whether a file or folder is left behind."""
    path = Path(entry.path)
    if entry.name.startswith(".") or any(fnmatch(entry.name, pattern) for pattern in _NEVER):
        return True
    if any(fnmatch(name, pattern.rstrip("/")) or fnmatch(entry.name, pattern.rstrip("/")) for pattern in exclude):
        return True
    if not entry.is_dir(follow_symlinks=False):
        return False
    if name in _NEVER_ON_TOP or (name == "data" and not (path / "__init__.py").exists()):
        return True
    marks = ("pyvenv.cfg", "CACHEDIR.TAG")  # environments and caches under whatever name
    return any((path / mark).exists() for mark in marks) or _is_run(path)


def _is_run(path: Path) -> bool:
    return (path / "config.toml").exists() and ((path / "checkpoints").exists() or (path / "metrics.jsonl").exists())


def _refuse_large(folder: Path, files: Sequence[str], limit: int) -> None:
    sizes = {name: (folder / name).stat().st_size for name in files}
    total = sum(sizes.values())
    if total <= limit and len(files) <= _MOST_FILES:
        return
    tops: Counter[str] = Counter()
    for name, size in sizes.items():
        top, slash, _ = name.partition("/")
        tops[top + slash] += size
    biggest = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in tops.most_common(3))
    count = f"more than {_MOST_FILES} files, " if len(files) > _MOST_FILES else ""
    raise UserError(
        f"the folder {folder} is too large to travel with a job: {count}{total / 1e6:.1f} MB, at most {limit / 1e6:g} MB;"
        f" the biggest: {biggest}; leave some out with --exclude, or submit from a folder of its own"
    )
