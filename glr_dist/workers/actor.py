"""The actor around anybody's role: a plain object gets a process, a device and a number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glr_dist.workers.frames import Frames
from glr_dist.workers.line import listen
from glr_dist.workers.parcels import Lost, Stored, answered, joined, unpacked


class Actor:
    """Answers pings, and calls of its role's verbs."""

    def __init__(self, make: Callable[..., Any], threads: int | None, keeps: bool, *arguments: Any) -> None:
        """Build the role in the actor's process; see `actor_starter`."""
        if threads is not None:
            import torch

            from glr_dist.core.device import exact_arithmetic

            torch.set_num_threads(threads)
            exact_arithmetic()
        self.role = make(*arguments)
        self._keeps, self._threads = keeps, threads
        self._busy = threading.Lock()  # one call at a time, whichever way it came

    def ping(self, secret: bytes | None = None) -> tuple[str, int, tuple[str, int] | None]:
        """Its node's id, its process, and where a line can be had by who knows the secret, when the role is built."""
        import ray

        host = ray.util.get_node_ip_address()
        place = listen(host, secret, self._by_line, self._begin) if secret is not None else None
        return ray.get_runtime_context().get_node_id(), os.getpid(), place

    def work(self, verb: str, needed: bool, written: bytes, counts: Sequence[int], *pieces: Any) -> Any:
        """One call, with its arguments as a `glr_dist.workers.parcels.Parcel` has them; or `Lost`."""
        with self._busy:
            answer = answered(self.role, verb, unpacked(written, joined(counts, pieces)), needed=needed)
        return Stored(answer) if self._keeps and not isinstance(answer, Lost) else answer

    def _by_line(self, frames: Frames) -> Any:
        verb, written, *vectors = frames
        beside = [np.frombuffer(vector, np.float32) for vector in vectors]
        for vector in beside:
            vector.flags.writeable = False
        with self._busy:
            return answered(self.role, bytes(verb).decode(), unpacked(bytes(written), beside), needed=False)

    def _begin(self) -> None:
        """In the thread that answers calls of a line."""
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)


def actor_starter(
    make: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    gpus: float = 0.0,
    threads: int | None = 1,
    cpus: int | None = None,
    keeps: bool = False,
) -> Callable[[], Any]:
    """A function that starts one actor.

    Args:
        make: makes the role from the arguments, in the actor's process: a class, or any function that can be pickled.
        arguments: of ``make``; object references (``ray.put``) to those that are large, which arrive as what they refer to.
        gpus: of the actor. One without GPUs may still see some: ``make`` must be told the device.
        threads: torch threads; None: the role does without torch, and starts without waiting for it.
        cpus: reserved; None: one for each thread. Those who mostly wait for others need none.
        keeps: answers stay in the object store of the actor's node, and the caller gets `Stored` in their place.
    """
    import ray

    reserved = (threads or 1) if cpus is None else cpus
    remote = ray.remote(num_cpus=reserved, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Actor)
    return lambda: remote.remote(make, threads, keeps, *arguments)
