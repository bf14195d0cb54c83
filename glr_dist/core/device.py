"""The kind of device that a process computes on, and arithmetic there that gives the same bits each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from glr_dist.errors import UserError


def found_device(asked: str) -> str:
    """``cpu`` or ``cuda``, as asked for; ``auto``: a GPU where there is one.

    Raises:
        UserError: when a GPU is asked for, and none can be used.
    """
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        why = "this torch is built without CUDA" if torch.version.cuda is None else "CUDA sees no GPU here"
        raise UserError(
            f"engine.device = 'cuda' (--device): {why}; use cpu, or auto, which takes a GPU where there is one"
        )
    return "cuda" if asked != "cpu" and there else "cpu"


def device_name(kind: str) -> str:
    """What a run says that it was made on."""
    return torch.cuda.get_device_name() if kind == "cuda" and torch.cuda.is_available() else kind


def exact_arithmetic() -> None:
    """From now on GPUs multiply in float32 and add in one order.

    TensorFloat-32 keeps 10 bits: a reconstructor elsewhere would see other bits than the evaluator did.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # looked at when a GPU is first used
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextmanager
def exact_on(kind: str) -> Iterator[None]:
    """Within: `exact_arithmetic`, if it is a GPU; sums that scatter are added in one order too. Afterwards as before."""
    if kind != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    exact_arithmetic()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(strict, warn_only=warns)
