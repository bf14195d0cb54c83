"""What travels with a job: the current folder without data, runs, caches, secrets and hidden files, as one zip archive.

Hidden files stay behind because that is where environments, repositories and tokens lie; so do files that are called like
keys or credentials, and links that lead out of the folder, or to what stays. Ray's own ``excludes`` would pack the rest, but
it follows links out of the folder, leaves files behind that git ignores and the job may need, knows no run by its files, and
tells that a folder is too large after packing it. So the choice is made here.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from glr_dist.errors import UserError

LIMIT_BYTES = 50 * 10**6  # Ray's dashboard refuses 100 MiB, and every node unpacks a copy
_STAYS = (".*", "__pycache__", "node_modules", "venv", "*.egg-info", "*.pyc")
_SECRETS = (  # in small letters; Python's own files are code, whatever they are called
    *(
        "id_rsa*",
        "id_dsa*",
        "id_ecdsa*",
        "id_ed25519*",
        "*.pem",
        "*.key",
        "*.ppk",
        "*.p12",
        "*.pfx",
        "*.jks",
        "*.keystore",
    ),
    *(
        "*.kdbx",
        "*.gpg",
        "*.asc",
        "*.ovpn",
        "*.tfstate",
        "*.env",
        "env.*",
        "*credential*",
        "*secret*",
        "*password*",
        "*passwd*",
    ),
    *(
        "auth_token*",
        "*.token",
        "token",
        "token.*",
        "*_token",
        "*-token",
        "*api_key*",
        "*apikey*",
        "*service*account*.json",
    ),
    *("kubeconfig*", "*passwd*", "_netrc", "htpasswd", "known_hosts", "authorized_keys", "*.keytab"),
)
_STAYS_ON_TOP = ("build", "dist", "runs", "wandb", "mlruns")  # folders
_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG")  # of environments and caches under whatever name
_MOST_FILES = 10_000  # somebody's home, or the root of a disk


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What of a folder travels: its files, relative to it, sorted; and what stays because of what it may hold."""

    sizes: Mapping[str, int]  # bytes, by file
    secrets: Sequence[str]  # called like keys or credentials, or links to what must not travel


def choose_files(
    folder: Path, *, exclude: Sequence[str] = (), apart: Collection[Path] = (), limit: int = LIMIT_BYTES
) -> Chosen:
    """Choose the files of a folder that a job needs.

    Args:
        folder: the folder that will be the job's current one.
        exclude: glob patterns of paths (relative to ``folder``) or names to leave out.
        apart: files and folders that stay behind, such as the data's and the run's.
        limit: bytes that may travel.

    Raises:
        UserError: when they take more than ``limit``; names what takes most.
    """
    secrets: list[str] = []
    patterns = [pattern.rstrip("/") for pattern in exclude]
    found = _files(folder, "", patterns, {path.resolve() for path in apart}, secrets)
    try:
        files = sorted(islice(found, _MOST_FILES + 1))
        sizes = {name: (folder / name).stat().st_size for name in files}
        _refuse_large(folder, sizes, limit)
    except OSError as error:
        why = f"{error}; leave that out with --exclude"
        raise UserError(f"the folder {folder} cannot travel with a job: {why}") from error
    return Chosen(sizes=sizes, secrets=sorted(secrets))


def pack_files(folder: Path, files: Iterable[str], archive: Path) -> None:
    """Write files of a folder into a zip archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out:
        for name in files:
            out.write(folder / name, name)


def _files(
    folder: Path, below: str, exclude: Sequence[str], apart: Collection[Path], secrets: list[str]
) -> Iterator[str]:
    """The files under ``folder / below``; links to folders are not followed, they tend to lead to data."""
    for entry in os.scandir(folder / below):
        path, name = Path(entry.path), f"{below}{entry.name}"
        named = any(fnmatch(text, pattern) for text in (name, entry.name) for pattern in (*_STAYS, *exclude))
        if named or path.resolve() in apart:
            continue
        if _secret(entry.name) or (entry.is_symlink() and _leads_out(path, folder)):
            secrets.append(name)
        elif entry.is_dir(follow_symlinks=False):
            if not _stays(path, name):
                yield from _files(folder, f"{name}/", exclude, apart, secrets)
        elif entry.is_file():
            yield name


def _secret(name: str) -> bool:
    """Whether a file or folder is called like what opens other doors."""
    return not name.endswith(".py") and any(fnmatch(name.lower(), pattern) for pattern in _SECRETS)


def _leads_out(link: Path, folder: Path) -> bool:
    """Whether a link leads out of the folder, or to something in it that would not travel under its own name."""
    target, root = link.resolve(), folder.resolve()
    if not target.is_relative_to(root):
        return True
    parts = target.relative_to(root).parts
    return any(_secret(part) or any(fnmatch(part, pattern) for pattern in _STAYS) for part in parts)


def _stays(path: Path, name: str) -> bool:
    """Whether a folder holds results, data, an environment or a cache."""
    if name in _STAYS_ON_TOP or (name == "data" and not (path / "__init__.py").exists()):
        return True
    run = (path / "config.toml").exists() and ((path / "checkpoints").exists() or (path / "metrics.jsonl").exists())
    return run or any((path / mark).exists() for mark in _MARKS)


def _refuse_large(folder: Path, sizes: Mapping[str, int], limit: int) -> None:
    total = sum(sizes.values())
    if total <= limit and len(sizes) <= _MOST_FILES:
        return
    tops: Counter[str] = Counter()
    for name, size in sizes.items():
        top, slash, _ = name.partition("/")
        tops[top + slash] += size
    biggest = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in tops.most_common(3))
    count = f"more than {_MOST_FILES} files, " if len(sizes) > _MOST_FILES else ""
    raise UserError(
        f"the folder {folder} is too large to travel with a job: {count}{total / 1e6:.1f} MB, at most {limit / 1e6:g} MB;"
        f" the biggest: {biggest}; leave some out with --exclude, or submit from a folder of its own"
    )
