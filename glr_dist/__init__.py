"""glr_dist: train neural networks from loss values alone, on Ray and PyTorch (the generalized likelihood ratio method)."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "ArrayDataset",
    "Callback",
    "Config",
    "Heaviside",
    "LoadedRun",
    "ProgressBar",
    "compare",
    "load",
    "load_config",
    "resume",
    "train",
    "tune",
]

_HOMES = {
    "ArrayDataset": "glr_dist.data.arrays",
    "Callback": "glr_dist.engine.callbacks",
    "Config": "glr_dist.config",
    "Heaviside": "glr_dist.core.activations",
    "LoadedRun": "glr_dist.study",
    "ProgressBar": "glr_dist.study",
    "compare": "glr_dist.study",
    "load": "glr_dist.study",
    "load_config": "glr_dist.config",
    "resume": "glr_dist.engine.session",
    "train": "glr_dist.engine.session",
    "tune": "glr_dist.tuning.tune",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that ``glr-dist --help`` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glr_dist' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_HOMES[name]), name)
    if name not in ("resume", "train"):
        return found
    from functools import partial, update_wrapper

    # the engine knows nothing of clusters' nodes: here, as on the command line, it is told to look at them first
    check = import_module("glr_dist.launch.node_report").check_nodes
    return update_wrapper(partial(found, preflight=check), found)
