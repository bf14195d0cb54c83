"""A folder on any file system that pyarrow.fs can write, with whole-or-nothing writes.

Locally a file (or a folder of files) is written under a temporary name beside its place, synced, and renamed:
a killed process or a full disk never leaves half of one. Object stores put whole objects; a folder of files
is committed there by its last file. Temporary names start with `.tmp-`, writers' claims with `.lock-`; `list` leaves
both out. A link below the folder is followed for reading alone, and only to regular files.
"""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from glr_dist.errors import UserError, first_line
from glr_dist.store.local import (
    LOCK,
    TEMP,
    beside,
    put_in_place,
    read_regular,
    remove,
    sync_folder,
    too_large,
    write_synced,
)
from glr_dist.store.places import absolute, is_uri, without_password

OBJECT_STORES = ("s3", "gcs", "abfs")  # folders are only a part of the name there
_REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG),
)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """One folder; every path given to its methods is relative to it, with forward slashes.

    Attributes:
        fs: the file system.
        root: the folder's path on it.
        uri: what `Storage.at` opens it with again: an absolute local path or a URI.
    """

    fs: Any
    root: str
    uri: str

    @classmethod
    def at(cls, place: str | Path) -> Storage:
        """Open a folder, which need not exist yet: a local path, or a URI such as `s3://bucket/runs/x?region=eu-west-1`.

        Raises:
            UserError: no file system answers to that URI.
        """
        text = str(place)
        if not is_uri(text):
            text = absolute(text or ".")
            return cls(fs=pafs.LocalFileSystem(), root=text, uri=text)
        try:
            fs, root = pafs.FileSystem.from_uri(text)
        except (OSError, pa.ArrowException, ImportError) as error:
            shown = without_password(text)
            reason = first_line(error).replace(text, shown)
            raise UserError(f"cannot open {shown}: {reason}; use a local folder, s3://, gs://") from error
        local = isinstance(fs, pafs.LocalFileSystem)
        return cls(fs=fs, root=root.rstrip("/") or "/", uri=root if local else text)

    def __str__(self) -> str:
        """The URI for people to read: without a password."""
        return without_password(self.uri)

    @property
    def local(self) -> bool:
        """Whether the folder is on this machine's own file system."""
        return isinstance(self.fs, pafs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The folder's own name, without what is above it."""
        return self.root.rstrip("/").rsplit("/", 1)[-1]

    def folder(self, path: str) -> Storage:
        """The folder `path` below this one, existing or not."""
        if not path:
            return self
        address, mark, query = self.uri.partition("?")
        return Storage(fs=self.fs, root=self._full(path), uri=f"{address.rstrip('/')}/{path}{mark}{query}")

    def parent(self) -> Storage:
        """The folder above this one."""
        address, mark, query = self.uri.partition("?")
        above = address.rstrip("/").rpartition("/")[0] or "/"
        return Storage(fs=self.fs, root=self.root.rpartition("/")[0] or "/", uri=f"{above}{mark}{query}")

    def path(self, path: str) -> Path:
        """Where a file of a local folder is, for those who append to it."""
        assert self.local, "only a local folder has paths"
        return Path(self._full(path))

    def read(self, path: str, most: int | None = None) -> bytes:
        """All bytes of a file, of which there should be ``most`` at most.

        Raises:
            FileNotFoundError: there is none.
            UserError: it may not be read, is no regular file, or is larger.
        """
        with self.explained(path, "read"):
            if self.local:
                return read_regular(self.path(path), most)
            size = self.fs.get_file_info(self._full(path)).size
            if most is not None and size is not None and size > most:
                raise UserError(too_large(str(self.folder(path)), size, most))
            with self.fs.open_input_file(self._full(path)) as file:
                return bytes(file.read())

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder of this name."""
        if self.local:
            return self.path(path).exists()
        with self.explained(path, "read"):
            return bool(self.fs.get_file_info(self._full(path)).type != pafs.FileType.NotFound)

    def list(self, folder: str = "") -> list[str]:
        """The sorted names in a folder, without temporary ones and claims; none if there is no such folder."""
        return sorted(name for name in self._names(folder) if not name.startswith((TEMP, LOCK)))

    def hidden(self, prefix: str) -> builtins.list[str]:
        """The sorted names right in this folder that `list` leaves out and that start like that."""
        return sorted(name for name in self._names("") if name.startswith(prefix))

    def write(self, path: str, data: bytes) -> None:
        """Write a file whole or not at all, making the folders above it.

        Raises:
            UserError: the disk is full, or the place may not be written.
        """
        with self.explained(path, "write"):
            if not self.local:
                self._put(path, data)
                return
            final = self.path(path)
            final.parent.mkdir(parents=True, exist_ok=True)
            temp = beside(final)
            try:
                write_synced(temp, data)
                os.replace(temp, final)  # noqa: PTH105  the tests stop it here
            except BaseException:
                temp.unlink(missing_ok=True)
                raise
            sync_folder(final.parent)

    def write_folder(self, path: str, files: Mapping[str, bytes]) -> None:
        """Write a folder of files as a whole, in place of one of the same name.

        On an object store the last of the files, contents by name, is the mark that the rest is there.

        Raises:
            UserError: the disk is full, or the place may not be written.
        """
        assert all("/" not in name for name in files), "a flat folder"
        with self.explained(path, "write"):
            if self.local:
                self._rename_folder(path, files)
                return
            self.delete(f"{path}/{list(files)[-1]}")
            for name, data in files.items():
                self._put(f"{path}/{name}", data)

    def delete(self, path: str) -> None:
        """Delete a file or a folder with all in it; nothing to delete is fine.

        Raises:
            UserError: it lies behind a link, and so belongs to something else.
        """
        self.refuse_linked(path)
        with self.explained(path, "delete"):
            if self.local:
                remove(self.path(path))
                return
            kind = self.fs.get_file_info(self._full(path)).type
            if kind == pafs.FileType.Directory:
                self.fs.delete_dir(self._full(path))
            elif kind != pafs.FileType.NotFound:
                self.fs.delete_file(self._full(path))

    def refuse_linked(self, path: str) -> None:
        """Raise UserError for something that is not this folder's own, since a link leads to it."""
        link = self._link_above(path) if self.local else None
        if link is not None and self.path(path).exists():
            raise UserError(
                f"cannot delete {self.folder(path)}: {link} is a link, and what lies behind it may be another's; put the"
                " folder itself there"
            )

    def clean(self, folder: str = "", name: str = "") -> None:
        """Remove what a killed writer left in a folder, of one file if named; only these files' one writer may call it."""
        if self.local and self.path(folder).is_dir() and not self._link_above(f"{folder}/." if folder else "."):
            with self.explained(folder, "clean"):
                for entry in self.path(folder).glob(f"{TEMP}*"):
                    if not name or entry.name.endswith(f"-{name}"):
                        remove(entry)

    @contextmanager
    def explained(self, path: str, verb: str) -> Iterator[None]:
        """Turn what the user can mend (a full disk, no permission) into a UserError that names the place."""
        try:
            yield
        except OSError as error:
            place = str(self.folder(path))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"no space left to {verb} {place}: free some or choose another --run-dir") from error
            if error.errno in _REFUSALS:
                raise UserError(f"cannot {verb} {place}: {os.strerror(error.errno).lower()}") from error
            if error.errno is None and not self.local:
                # an object store's own: no such bucket, access denied, no answer
                raise UserError(f"cannot {verb} {place}: {first_line(error)}") from error
            raise

    def _names(self, folder: str) -> builtins.list[str]:
        """All names in a folder; none if there is no such folder."""
        if self.local:
            place = self.path(folder)
            with self.explained(folder, "list"):
                return [entry.name for entry in place.iterdir()] if place.is_dir() else []
        selector = pafs.FileSelector(self._full(folder), allow_not_found=True)
        with self.explained(folder, "list"):
            return [info.base_name for info in self.fs.get_file_info(selector)]

    def _link_above(self, path: str) -> Path | None:
        """The first link on the way from a local folder to something below it."""
        names = path.split("/")[:-1]
        places = (self.path("/".join(names[:depth])) for depth in range(1, len(names) + 1))
        return next((place for place in places if place.is_symlink()), None)

    def _full(self, path: str) -> str:
        """The path on the file system; refuses one that could leave the folder."""
        parts = path.split("/") if path else []
        if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{path!r} is not a plain relative path inside {self}")
        return "/".join([self.root.rstrip("/"), *parts]) or "/"

    def _put(self, path: str, data: bytes) -> None:
        """Write an object; file systems with real folders get theirs first."""
        full = self._full(path)
        if self.fs.type_name not in OBJECT_STORES:
            self.fs.create_dir(full.rpartition("/")[0], recursive=True)
        with self.fs.open_output_stream(full) as file:
            file.write(data)

    def _rename_folder(self, path: str, files: Mapping[str, bytes]) -> None:
        """Write the files into a temporary folder and put it in its place."""
        final = self.path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        temp = beside(final)
        try:
            temp.mkdir()
            for name, data in files.items():
                write_synced(temp / name, data)
            sync_folder(temp)
            put_in_place(temp, final)
            sync_folder(final.parent)
        finally:
            remove(temp)  # after an exchange, it is the former folder that is here
