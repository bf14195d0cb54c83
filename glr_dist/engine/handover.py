"""Workers that come while a training is under way: it begins in this process, and Ray is started beside it if that can pay.

Whether it pays is forecast from what steps take here: a step of B blocks can be shared among as many processes as there are
cores, and sharing it costs a few milliseconds. Starting Ray takes a core for some seconds, so a short run, or one of short
steps, never does. Nothing waits for Ray, and no result depends on when it comes, or whether.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from glr_dist.errors import UserError, first_line
from glr_dist.workers.cluster import connected
from glr_dist.workers.local_ray import apart
from glr_dist.workers.ray_pool import RayPool

_SHARING_SECONDS = 1e-3  # that sharing a step costs, beside
_BYTES_PER_SECOND = 1e9  # of parameters, losses and gradients between processes
_MUST_SAVE_SECONDS = 15.0  # in the rest of the run, for starting Ray takes 5 to 10 of another core
_THREAD = "workers come"


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_cores() -> int:
    """Those of them that others leave idle, beside the one that works already."""
    others = os.getloadavg()[0] - 1.0 if hasattr(os, "getloadavg") else 0.0
    return max(1, round(cores() - max(0.0, others)))


def shared_seconds(seconds: float, *, blocks: int, hands: int, nbytes: int) -> float:
    """What a step would take, shared among so many processes, that takes so many seconds in one.

    ``nbytes``: of parameters down and of losses and sums up, of each of the others.
    """
    hands = min(hands, blocks)
    largest = -(-blocks // hands) / blocks  # share
    return seconds * largest + (_SHARING_SECONDS + (hands - 1) * nbytes / _BYTES_PER_SECOND if hands > 1 else 0.0)


class Handover:
    """Starts workers beside the training, when that is forecast to pay, and hands them over when they are ready."""

    def __init__(self, start: Callable[[int], RayPool], *, blocks: int, threads: int, nbytes: int) -> None:
        """``start`` starts a pool of so many workers, once Ray is connected; ``blocks`` of a step; ``threads`` of each."""
        self._start, self._blocks, self._nbytes = start, blocks, nbytes
        self._threads = threads
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._pool: RayPool | None = None
        self._up = False
        self._fault: str | None = None
        self.saves = 0.0  # seconds that workers were forecast to save in the rest of the run, when that was last asked

    @property
    def begun(self) -> bool:
        """Whether workers are being started, or were."""
        return self._thread is not None

    def consider(self, seconds: float, steps: float) -> None:
        """Start workers if that pays: a step takes so many seconds here, and so many steps are left."""
        hands = max(1, min(self._blocks, idle_cores() // self._threads))  # with this process
        shared = shared_seconds(seconds, blocks=self._blocks, hands=hands, nbytes=self._nbytes)
        self.saves = steps * (seconds - shared)
        if not self.begun and hands > 1 and self.saves >= _MUST_SAVE_SECONDS:
            # who starts Ray's processes must live as long as they shall: they die with the thread that did
            self._thread = threading.Thread(target=self._run, args=(hands - 1,), name=_THREAD, daemon=False)
            self._thread.start()

    def ready(self) -> RayPool | None:
        """The workers, once, when all take calls.

        Raises:
            UserError: why there will be none.
        """
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise UserError(fault)
        pool, self._pool = self._pool, None
        return pool

    def close(self) -> None:
        """Let the workers go, if there are any; does not wait for those that are still starting."""
        self._over.set()
        if self._thread is not None and self._up:
            self._thread.join()

    def _run(self, workers: int) -> None:
        try:
            with apart() as own, ExitStack() as left:
                if not own:
                    raise UserError("Ray can't be started beside a training on this system; give --workers N")
                left.enter_context(connected())
                if not self._over.is_set():
                    pool = self._start(workers)
                    left.callback(pool.close)
                    pool.wait_ready()
                    self._up, self._pool = True, pool
                    self._over.wait()
        except Exception as error:  # told by whoever asks for workers: the training goes on without
            self._fault = first_line(error)


def join_former() -> None:
    """Wait until the Ray of a former training, which ended before it was up, is gone again."""
    for thread in threading.enumerate():
        if thread.name == _THREAD:
            thread.join()


def steps_left(step: int, steps: int, seconds: float, until: float | None) -> float:
    """How many steps are still to come, when each takes so long and time is over at ``until`` on the monotonic clock."""
    left: float = steps - step
    return left if until is None else max(0.0, min(left, (until - time.monotonic()) / seconds))
