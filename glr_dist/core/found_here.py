"""Modules of the user's own in the current folder: looked for there only where the user names one, and after all else.

Were the current folder on `sys.path`, as ``python -m`` has it, a ``torch.py`` in a downloaded run's folder would be run.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

FOUND_HERE = "__found_here__"  # set in such modules: no other process would find them


def import_named(name: str) -> ModuleType:
    """A module that the user named, and what it imports: from the current folder too, after all else.

    Raises:
        ImportError: there is none.
    """
    here = os.getcwd()  # noqa: PTH109  as it stands on sys.path
    if here in sys.path or "" in sys.path:
        return importlib.import_module(name)
    known = set(sys.modules)
    sys.path.append(here)
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(here)
    for fresh in sys.modules.keys() - known:
        if _lies_in(fresh.partition(".")[0], Path(here)):
            setattr(sys.modules[fresh], FOUND_HERE, True)
    return module


def _lies_in(name: str, folder: Path) -> bool:
    """Whether an imported top-level module or package is right in a folder."""
    file = vars(sys.modules[name]).get("__file__") if name in sys.modules else None
    return (
        file is not None
        and folder in (Path(file).parent, Path(file).parent.parent)
        and (Path(file).parent == folder or Path(file).name == "__init__.py")
    )
