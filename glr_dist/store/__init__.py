"""A run on disk: config.toml, metrics.jsonl, journal/, checkpoints/, wherever pyarrow.fs can write."""

from __future__ import annotations

from glr_dist.runs.run import create_run, open_run
from glr_dist.store.checkpoint import (
    Checkpoint,
    CheckpointError,
    checkpoint_steps,
    load_checkpoint,
    params_sha256,
    save_checkpoint,
)
from glr_dist.store.journal import (
    JournalError,
    JournalReader,
    JournalRow,
    JournalWriter,
    estimate_bytes,
    truncate_journal,
)
from glr_dist.store.metrics import MetricsWriter, read_metrics, truncate_metrics
from glr_dist.store.storage import Storage

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "JournalError",
    "JournalReader",
    "JournalRow",
    "JournalWriter",
    "MetricsWriter",
    "Storage",
    "checkpoint_steps",
    "create_run",
    "estimate_bytes",
    "load_checkpoint",
    "open_run",
    "params_sha256",
    "read_metrics",
    "save_checkpoint",
    "truncate_journal",
    "truncate_metrics",
]
