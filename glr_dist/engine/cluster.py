"""Finding a Ray cluster, or starting a local one, and checking that it has what was asked for before anything waits."""

from __future__ import annotations

import logging
import os
import socket
import time

from glr_dist.errors import UserError

_WAIT_SECONDS = 10.0  # for nodes of a cluster that is just starting


def connect() -> bool:
    """Connect to the cluster of this job, of ``RAY_ADDRESS``, or to a local one started here.

    Returns:
        Whether it was connected here, so that ``ray.shutdown()`` is due in the end.

    Raises:
        UserError: when no cluster answers at ``RAY_ADDRESS``.
    """
    import ray

    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        return True
    # Ray itself takes minutes to say that nobody listens, and doesn't say what it is refused
    host, colon, port = address.rpartition(":")
    plain = bool(colon) and port.isdecimal() and "/" not in host
    if plain and (why_not := knock(host, int(port))):
        raise UserError(f"RAY_ADDRESS = {address}: no Ray cluster answers there ({why_not}); mend it, or unset it")
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = "somebody listens; does it want the token of RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH?"
        raise UserError(
            f"RAY_ADDRESS = {address}: can't connect ({error}); {hint if plain else 'mend it, or unset it'}"
        ) from error
    return True


def knock(host: str, port: int) -> str:
    """Why nobody can be reached there, after 10 s at most; "" if somebody listens."""
    try:
        socket.create_connection((host, port), timeout=_WAIT_SECONDS).close()
    except OSError as error:
        return str(error).split("\n")[0]
    return ""


def workers_available(workers: int, reconstructors: int, *, threads: int, gpus: float, most: int) -> int:
    """Check the cluster against what was asked for.

    Args:
        workers: evaluators, -1 for as many as the cluster has room for, 0 for none.
        reconstructors: reconstructor actors.
        threads: CPUs of each actor.
        gpus: GPUs of each actor.
        most: evaluators that could find work in one step.

    Returns:
        The number of evaluators to start.

    Raises:
        UserError: when the cluster is too small after a short wait; says what it has.
    """
    import ray

    actors = abs(workers) + reconstructors  # -1 needs room for one at least
    need_cpus, need_gpus = threads * actors, gpus * actors
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        has, free = ray.cluster_resources(), ray.available_resources()
        cpus, gpus_there = free.get("CPU", 0.0), free.get("GPU", 0.0)
        if cpus >= need_cpus and gpus_there >= need_gpus:
            break
        # one machine won't grow while we wait; a cluster might, and busy CPUs may come free
        hopeless = len(ray.nodes()) <= 1 and (has.get("CPU", 0.0) < need_cpus or has.get("GPU", 0.0) < need_gpus)
        if hopeless or time.monotonic() > deadline:
            raise UserError(
                f"--workers {abs(workers)} --reconstructors {reconstructors} --gpus-per-worker {gpus:g}: needs"
                f" {need_cpus:g} CPUs and {need_gpus:g} GPUs, the cluster has {has.get('CPU', 0):g} CPUs ({cpus:g} free)"
                f" and {has.get('GPU', 0):g} GPUs ({gpus_there:g} free); lower them or add nodes"
            )
        time.sleep(0.2)
    if workers != -1:
        return workers
    room = int(cpus // threads) - reconstructors
    if gpus:
        room = min(room, int(gpus_there / gpus) - reconstructors)
    return max(1, min(room, most))


def spare_room(*, threads: int, gpus: float) -> int:
    """How many further actors of that size the cluster could hold now.

    Args:
        threads: CPUs of each.
        gpus: GPUs of each.
    """
    import ray

    free = ray.available_resources()
    room = int(free.get("CPU", 0.0) // threads)
    return min(room, int(free.get("GPU", 0.0) / gpus)) if gpus else room
