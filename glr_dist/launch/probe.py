"""What one node of a cluster answers when asked whether it could take part in a run.

This module is sent to the nodes by value, because a node may have another glr_dist or none: it imports nothing but the
standard library until it has to, and turns whatever goes wrong into a line.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

TRIES = 5  # several nodes may make and remove one folder at the same time


def answers(data: Mapping[str, Any] | None, run: str | None, mark: str) -> dict[str, Any]:
    """All answers of this node.

    Args:
        data: the fields of a `DataConfig`, or None to leave the data alone.
        run: folder or URI of the run, or None to leave it alone.
        mark: the name of the file that the driver has put there.

    Returns:
        The fields of a `glr_dist.launch.preflight.NodeReport` that it names, ``cuda``: whether its torch is built for
        GPUs, and ``errors``: what went wrong, a line each.
    """
    errors: list[str] = []
    return {
        "versions": _try(versions, "versions", errors) or {},
        "cpu": _try(cpu_kind, "torch", errors) or platform.machine(),
        "cuda": bool(_try(_built_for_gpus, "torch", errors)),
        "data": _try(lambda: data_fingerprint(data), "data", errors) if data is not None else None,
        "shared": _try(lambda: write_and_delete(run, mark), "storage", errors) if run is not None else None,
        "errors": list(dict.fromkeys(errors)),
    }


def versions() -> dict[str, str]:
    """The versions that must agree: without a build's local part, which differs between CPU and GPU nodes of one cluster."""
    import ray
    import torch

    try:
        from glr_dist import __version__ as own
    except ImportError:
        own = "missing"
    found = {"glr_dist": own, "torch": str(torch.__version__).partition("+")[0], "ray": ray.__version__}
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def cpu_kind() -> str:
    """The CPU's architecture and the vector instructions that torch uses on it: they decide the last bits of results."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _built_for_gpus() -> bool:
    import torch

    return torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None


def data_fingerprint(data: Mapping[str, Any]) -> str:
    """Open the data set here, with every file checked."""
    from glr_dist.data.config import DataConfig
    from glr_dist.data.dataset import open_dataset

    return open_dataset(DataConfig(**data)).fingerprint


def write_and_delete(run: str, mark: str) -> bool:
    """Write a file into the run's folder and delete it, and folders made for it; returns whether the driver's is there."""
    from glr_dist.store.storage import Storage

    place = Storage.at(run)
    shared = place.exists(mark)
    own = f"{mark}-{platform.node()}-{os.getpid()}"
    missing = missing_folders(place)
    for attempt in range(TRIES):
        try:
            place.write(own, b"")
            place.delete(own)
            break
        except FileNotFoundError:
            if attempt == TRIES - 1:
                raise
            time.sleep(0.1)
    remove_folders(missing)
    return shared


def missing_folders(place: Any) -> list[Any]:
    """The folders, innermost first, that writing into a local one would make; none elsewhere."""
    if not place.local:
        return []
    folder = place.path("")
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_folders(folders: list[Any]) -> None:
    """Remove empty folders, innermost first; stops at one that is in use."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _try(ask: Callable[[], Any], what: str, errors: list[str]) -> Any:
    """An answer; or None, and a line about what went wrong."""
    try:
        return ask()
    except Exception as error:  # whatever a foreign machine comes up with
        text = (str(error) or type(error).__name__).splitlines()[0]
        errors.append(f"{what}: {text}")
        return None
