"""Modules of the user's own: looked for in the current folder, or a run's, only where the user names one, after all else.

Were the current folder on `sys.path`, as ``python -m`` has it, a ``torch.py`` in a downloaded run's folder would be run.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from glr_dist.errors import is_installed

FOUND_HERE = "__found_here__"  # set in such modules: no other process would find them
_files: dict[str, dict[str, Path]] = {}  # of the modules that were named: their files and those that they import


def import_named(name: str, folder: Path | None = None) -> ModuleType:
    """A module that the user named, and what it imports: from a folder too (None: the current one), after all else.

    Raises:
        ImportError: there is none.
    """
    here = folder or Path.cwd()
    with _looking_in(here) as found:
        module = importlib.import_module(name)
    _files[name] = found
    return module


def import_file(path: Path) -> ModuleType:
    """The module that is a file, under a name of its own, with what it imports: from its folder too, after all else.

    Raises:
        OSError: there is no such file.
    """
    path = path.absolute()
    content = path.read_bytes()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode() + content).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    setattr(module, FOUND_HERE, True)
    try:
        with _looking_in(path.parent) as found:
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _files[name] = {path.name: path, **found}
    return module


def files_of(module: ModuleType) -> dict[str, Path]:
    """The files of a module that was named, and of those that it imports, which lie in its folder, by their place there."""
    return _files.get(module.__name__, {})


@contextmanager
def _looking_in(folder: Path) -> Iterator[dict[str, Path]]:
    """Within: imports find a folder's modules too, after all else, and none of the same name from another folder.

    Yields:
        The files of those that were found there, filled in at the end.
    """
    here, found = str(folder), dict[str, Path]()
    offered = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    others = {name: module for name, module in sys.modules.items() if _is_other(name, module, folder, offered)}
    for name in others:
        del sys.modules[name]
    on_path = here in sys.path or (folder == Path.cwd() and "" in sys.path)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a run's folder stays as it is
    if not on_path:
        sys.path.append(here)
    importlib.invalidate_caches()  # the folder may be younger than what was last looked for there
    try:
        yield found
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in offered and (file := _file(module)) and file.is_relative_to(folder):
                found[file.relative_to(folder).as_posix()] = file
                if not on_path:
                    setattr(module, FOUND_HERE, True)
    finally:
        sys.dont_write_bytecode = writes
        if not on_path:
            sys.path.remove(here)
        sys.modules.update(others)


def _is_other(name: str, module: ModuleType, folder: Path, offered: set[str]) -> bool:
    """Whether a module that is loaded is a user's own, has a name that the folder offers too, and lies elsewhere."""
    if name.partition(".")[0] not in offered or name == "__main__":
        return False
    file = _file(module)
    return file is not None and not file.is_relative_to(folder) and not is_installed(str(file))


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)  # of some a name alone, as of torch.classes
    path = Path(os.path.abspath(file)) if isinstance(file, str) else None  # noqa: PTH100  links stay as they are
    return path if path is not None and path.is_file() else None
