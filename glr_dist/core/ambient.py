"""The state of torch that a caller may have set for code of their own, set back for ours: gradients on, float32, the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def _on_the_cpu() -> AbstractContextManager[object]:
    """Nothing where the CPU is the default: torch would hand every call to a mode in Python, at 10 microseconds each."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


@contextmanager
def usual_torch() -> Iterator[None]:
    """Within: gradients are recorded where they are needed, and new tensors are float32 on the CPU, as a process starts."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), _on_the_cpu():
            yield
    finally:
        torch.set_default_dtype(dtype)
