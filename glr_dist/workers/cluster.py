"""Finding a Ray cluster, or starting a local one, and checking that it has what was asked for before anything waits."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from glr_dist.core.found_here import FOUND_HERE
from glr_dist.errors import UserError, first_line
from glr_dist.workers.local_ray import elsewhere, keep_to_oneself, local_ray

_WAIT_SECONDS = 10.0  # for nodes of a cluster that is just starting


def elsewhere_named() -> bool:
    """Whether a cluster is there to be joined, or has been joined: else one is started on this machine."""
    if os.environ.get("RAY_ADDRESS", "") not in ("", "local"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def connected() -> Iterator[None]:
    """Within: connected to the cluster of this job, of ``RAY_ADDRESS``, or to a local one started here.

    Raises:
        UserError: when no cluster answers at ``RAY_ADDRESS``.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    alone = not address or address == "local"
    if alone:
        keep_to_oneself()
    import ray

    if ray.is_initialized():
        _send_modules_of_here()
        yield
        return
    if alone:
        with local_ray():
            _send_modules_of_here()
            yield
        return
    with tempfile.TemporaryDirectory() as empty, elsewhere(Path(empty)):
        _connect(address)
    try:
        _send_modules_of_here()
        yield
    finally:
        ray.shutdown()


def _send_modules_of_here() -> None:
    """Have modules that were found in the current folder, since the user named one, travel with what is made of them.

    Workers don't look for modules there.
    """
    from ray import cloudpickle

    for module in list(sys.modules.values()):
        if vars(module).get(FOUND_HERE):
            cloudpickle.register_pickle_by_value(module)


def _connect(address: str) -> None:
    import ray

    # Ray itself takes minutes to say that nobody listens, and doesn't say what it is refused
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):  # IPv6
        host = host[1:-1]
    plain = bool(colon) and port.isdecimal() and "/" not in host
    if plain and (why_not := knock(host, int(port))):
        raise UserError(f"RAY_ADDRESS = {address}: no Ray cluster answers there ({why_not}); mend it, or unset it")
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:  # a token refused is the last
        hint = "somebody listens; does it want the token of RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH?"
        raise UserError(
            f"RAY_ADDRESS = {address}: can't connect ({first_line(error)}); {hint if plain else 'mend it, or unset it'}"
        ) from error


def knock(host: str, port: int) -> str:
    """Why nobody can be reached there, after 10 s at most; "" if somebody listens."""
    try:
        socket.create_connection((host, port), timeout=_WAIT_SECONDS).close()
    except OSError as error:
        return str(error).split("\n")[0]
    return ""


def workers_available(
    workers: int, reconstructors: int, *, threads: int, gpus: float, most: int, generators: int = 0
) -> int:
    """Check the cluster against what was asked for; how many evaluators to start.

    Args:
        workers: evaluators, -1 for as many as the cluster has room for, 0 for none.
        reconstructors: as asked for.
        threads: CPUs of each actor.
        gpus: of each evaluator and reconstructor.
        most: evaluators that could find work in one step.
        generators: as asked for; they have CPUs alone.

    Raises:
        UserError: when the cluster is too small after a short wait; says what it has.
    """
    import ray

    actors = abs(workers) + reconstructors  # -1 needs room for one at least
    deadline = time.monotonic() + _WAIT_SECONDS
    while (room := _room_beside(generators, _available(), threads, gpus)) < actors:
        # one machine won't grow while we wait; a cluster might, and busy CPUs may come free
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        hopeless = len(nodes) <= 1 and _room_beside(generators, nodes, threads, gpus) < actors
        if hopeless or time.monotonic() > deadline:
            asked = f"--workers {abs(workers)} --reconstructors {reconstructors} --gpus-per-worker {gpus:g}"
            others = f" --generators {generators}" if generators else ""
            has, free = ray.cluster_resources(), ray.available_resources()
            raise UserError(
                f"{asked}{others}: needs {threads * (actors + generators):g} CPUs and {gpus * actors:g} GPUs, the cluster"
                f" has {_shown(has, free, 'CPU')} and {_shown(has, free, 'GPU')}, room for {max(room, 0)} such actors"
                f"{' beside the generators' if generators else ''}; lower them or add nodes"
            )
        time.sleep(0.2)
    return workers if workers != -1 else max(1, min(room - reconstructors, most))


def spare_room(*, threads: int, gpus: float) -> int:
    """How many actors of so many CPUs and GPUs the cluster could hold now; an actor can't be spread over nodes."""
    return _room_beside(0, _available(), threads, gpus)


def _available() -> list[Mapping[str, float]]:
    """What every node has to give now."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    usages = [node.resource_usage.usage for node in (*status.active_nodes, *status.idle_nodes) if node.resource_usage]
    return [{one.resource_name: one.total - one.used for one in usage} for usage in usages]


def _room_beside(generators: int, nodes: Sequence[Mapping[str, float]], threads: int, gpus: float) -> int:
    """How many actors fit on some nodes when generators, which need no GPUs, have their place; below 0: not even these."""
    fit = sum(_fits(node, threads, gpus) for node in nodes)
    return min(fit, sum(_fits(node, threads, 0.0) for node in nodes) - generators)


def _fits(node: Mapping[str, float], threads: int, gpus: float) -> int:
    room = int(node.get("CPU", 0.0) // threads)
    if not gpus:
        return room
    each = int(1 / gpus) if gpus <= 1 else 1  # actors on one GPU share it, none spans a part of two
    return min(room, int(node.get("GPU", 0.0) // max(gpus, 1.0)) * each)


def _shown(has: Mapping[str, float], free: Mapping[str, float], kind: str) -> str:
    return f"{has.get(kind, 0.0):g} {kind}s ({free.get(kind, 0.0):g} free)"
