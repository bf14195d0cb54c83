"""What a line between two processes of this machine carries, measured."""

from __future__ import annotations

import secrets
import time
from statistics import median
from typing import Any

import numpy as np

from glr_dist.planning.forecast import Link
from glr_dist.workers.frames import pickled
from glr_dist.workers.line import Line, listen, settled

_BYTES = 4_000_000


def local_link() -> Link:
    """What goes between two ends on this machine, measured on a line of its own."""
    secret = secrets.token_bytes(64)
    line = Line.open(listen("127.0.0.1", secret, lambda frames: None, lambda: None), secret)
    assert line is not None  # nothing of this leaves the machine
    empty, full = pickled(None), pickled(np.zeros(_BYTES, np.uint8))
    try:
        latency = _round_trip(line, empty) / 2
        bandwidth = _BYTES / max(_round_trip(line, full) - 2 * latency, 1e-6)
    finally:
        line.close()
    return Link(bandwidth=bandwidth, latency=latency)


def _round_trip(line: Line, frames: list[Any], times: int = 9) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        settled([line.send(frames)], None)
        found.append(time.perf_counter() - began)
    return median(found)
