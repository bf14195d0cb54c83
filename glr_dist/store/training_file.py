"""training.pt, read so that it can run no code and take no more memory than its own size.

``weights_only`` keeps code out. But a compressed archive, a ``bytearray`` of any length, or a tensor that repeats one number
could ask for gigabytes: `torch.save` writes none of these.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def load_training(data: bytes) -> dict[str, Any]:
    """The training state in a file's bytes.

    Raises:
        ValueError: it is none that `torch.save` writes of tensors and plain values, or what torch raises then.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its archive is compressed")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("its archive's parts lie upon each other")
        pickled = [archive.read(entry) for entry in entries if entry.filename.endswith("data.pkl")]
    if len(pickled) != 1 or b"bytearray" in pickled[0]:
        raise ValueError("its values are no plain ones")
    training = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    if not isinstance(training, dict):
        raise ValueError("it is no table")
    for tensor in _tensors(training):
        if tensor.layout != torch.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError("a tensor repeats its numbers")
    return training


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _tensors(item)
