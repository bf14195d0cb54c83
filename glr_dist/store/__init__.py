"""Bytes on disk, wherever pyarrow.fs can write: folders, checkpoints, journals, metrics; no meaning."""
