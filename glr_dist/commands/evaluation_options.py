"""What ``glr-dist attack`` and ``glr-dist evaluate`` do alike: their options, their actors and how they show progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.terminal import say
from glr_dist.errors import UserError

if TYPE_CHECKING:
    from glr_dist.attacks.config import AttackConfig

_DEFAULT_EPSILON = 0.1
_STAND_IN_RESTARTS = 3  # of attacks whose derivative is not the network's own
_START_SECONDS = 10.0  # for CPUs that are just coming free
_LINE_SECONDS = 5.0  # between lines where there is no terminal


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which samples."""
    for option in (
        click.option("--trust-model", is_flag=True, help="Import and run the model.factory that a checkpoint names."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random."),
        click.option("--count", type=int, help="So many samples, chosen by the seed.  [default: all]"),
        click.option("--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True),
        click.option("--data-root", metavar="DIR", help="Folder of the data.  [default: the run's]"),
        click.option(
            "--dataset", metavar="NAME", help="digits, mnist, fashion-mnist, cifar10, parquet.  [default: the run's]"
        ),
    ):
        command = option(command)
    return command


def attack_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that size an attack."""
    for option in (
        click.option("--queries", type=int, help="hopskipjump, square: most forward passes per sample."),
        click.option("--draws", type=int, help="random-signs: draws per sample; eot-pgd: noise draws per gradient."),
        click.option("--restarts", type=int, help="Random starts of the iterative attacks.  [default: 1, stand-ins 3]"),
        click.option("--step-size", type=float, help="Of each step, in input units.  [default: 2.5 epsilon / steps]"),
        click.option("--steps", type=int, help="Of the iterative attacks.  [default: 40]"),
        click.option(
            "--epsilon",
            "epsilons",
            type=float,
            multiple=True,
            help="Size of the L-infinity ball, pixels being in [0, 1]; repeatable.  [default: 0.1]",
        ),
    ):
        command = option(command)
    return command


def attack_configs(names: Sequence[str], epsilons: Sequence[float], settings: Mapping[str, Any]) -> list[AttackConfig]:
    """Every attack in every size.

    Args:
        names: of the attacks.
        epsilons: sizes; none: 0.1.
        settings: further fields of AttackConfig; None where the option was left out.

    Raises:
        UserError: for an unknown name or a value out of range.
    """
    from glr_dist.attacks.config import AttackConfig

    given = {key: value for key, value in settings.items() if value is not None}
    found = []
    for name in dict.fromkeys(names):
        own = {"restarts": _STAND_IN_RESTARTS} if name in ("bpda-pgd", "eot-pgd") else {}
        for epsilon in dict.fromkeys(epsilons or (_DEFAULT_EPSILON,)):
            config = AttackConfig(**{"name": name, "epsilon": epsilon, **own, **given})
            config.check()
            found.append(config)
    return found


@contextmanager
def actors(workers: int) -> Iterator[int]:
    """Within: Ray is up, if actors are wanted.

    Args:
        workers: as asked for; 0: none, -1: as many as there is room for.

    Yields:
        The number of actors to start, one CPU each; 0 also where there is no room and none was insisted on.

    Raises:
        UserError: when there is no room for as many as were asked for.
    """
    if workers == 0:
        yield 0
        return
    import ray

    from glr_dist.workers.cluster import connect

    connected_here = connect()
    try:
        room = _room(max(workers, 1))
        if room < workers:
            raise UserError(
                f"--workers {workers}: needs {workers} CPUs, the cluster has {room} free; lower it, or give --workers 0"
                " to do without actors"
            )
        yield room if workers == -1 else workers
    finally:
        if connected_here:
            ray.shutdown()


def _room(wanted: int) -> int:
    """Free CPUs, after a short wait if there are fewer than wanted."""
    import ray

    from glr_dist.workers.cluster import spare_room

    deadline = time.monotonic() + _START_SECONDS
    while (room := spare_room(threads=1, gpus=0.0)) < wanted:
        if ray.cluster_resources().get("CPU", 0.0) < wanted or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return room


@contextmanager
def job_display() -> Iterator[Callable[[int, int, str], None]]:
    """Within: a function that shows on standard error how many jobs are done: a bar on a terminal, else lines."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, jobs, last: bar.update(task, completed=done, total=jobs, description=last)


def _lines() -> Callable[[int, int, str], None]:
    began = told = 0.0

    def show(done: int, jobs: int, last: str) -> None:
        nonlocal began, told
        now = time.monotonic()
        if done == 1:  # actors take seconds to start: they don't count
            began = told = now
        if done != jobs and now - told < _LINE_SECONDS:
            return
        told = now
        say(f"{done}/{jobs} chunks of samples, {last}; {(now - began) / max(done - 1, 1) * (jobs - done):.0f} s left")

    return show
