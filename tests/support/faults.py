"""The fault injector: kills, delays or corrupts chosen workers of a running crew at chosen steps, and times recoveries."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from glr_dist.engine.crew import Crew
from glr_dist.workers.pace import Worker
from glr_dist.workers.pool import RayPool

_POLL_SECONDS = 0.005
_ANSWER_SECONDS = 60.0  # for a word with a worker on a busy machine


def pools(crew: Crew) -> list[RayPool]:
    """Those of a crew's pools that are made of actors: evaluators first."""
    return [pool for pool in (crew.evaluators, crew.reconstructors) if isinstance(pool, RayPool)]


def pid_of(worker: Worker) -> int:
    """The process of a worker."""
    import ray

    pid: int = ray.get(worker.actor.__ray_call__.remote(lambda self: os.getpid()), timeout=_ANSWER_SECONDS)
    return pid


def afflict(worker: Worker, change: Callable[[Any], Any], *, delay: float = 0.0) -> None:
    """From now on every answer of a worker comes ``delay`` seconds later and is ``change`` of what it should be."""
    import ray

    def wrap(self: Any) -> None:
        healthy = self._function

        def afflicted(*arguments: Any) -> Any:
            time.sleep(delay)
            return change(healthy(*arguments))

        self._function = afflicted

    ray.get(worker.actor.__ray_call__.remote(wrap), timeout=_ANSWER_SECONDS)


@dataclass(eq=False)
class Death:
    """A kill: who, when, and when another worker took calls in its place (seconds of the monotonic clock)."""

    pool: RayPool
    number: int
    actor: Any
    role: str
    killed: float = 0.0
    recovered: float = 0.0


class Killer:
    """SIGKILLs and stops workers of a run's crew, and watches how long their deaths are felt."""

    def __init__(self, crews: Sequence[Crew], *, seed: int = 0, spared: Sequence[int] = ()) -> None:
        """Do nothing yet, but watch.

        Args:
            crews: where the run's crew appears once it is assembled.
            seed: of who dies, and when within the step.
            spared: numbers of evaluators that are left alone.
        """
        self._crews, self._spared = crews, spared
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._stopped: set[int] = set()  # ids of actors that are stopped now
        self.deaths: list[Death] = []
        self.pauses = 0
        self._watcher = threading.Thread(target=self._watch, name="killer", daemon=True)
        self._watcher.start()

    @property
    def all_recovered(self) -> bool:
        """Whether each of the dead has a successor that takes calls."""
        return all(death.recovered for death in self.deaths)

    def kill(self, role: str) -> None:
        """Kill a worker that is well, if there is one: between the steps call it, and it happens in the midst of the next.

        Args:
            role: ``evaluator`` or ``reconstructor``.
        """
        pool = pools(self._crews[-1])[0 if role == "evaluator" else 1]
        victim = self._pick(pool, role)
        if victim is None:
            return
        death, pid = Death(pool, victim.number, victim.actor, role), pid_of(victim)
        self.deaths.append(death)

        def strike() -> None:
            death.killed = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        threading.Timer(self._random.uniform(0.0, 0.03), strike).start()

    def pause(self, seconds: float) -> None:
        """Stop an evaluator that is well, if there is one, for so long: it neither dies nor answers."""
        victim = self._pick(pools(self._crews[-1])[0], "evaluator")
        if victim is None:
            return
        pid, actor = pid_of(victim), victim.actor
        self._stopped.add(id(actor))
        self.pauses += 1
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._stopped.discard(id(actor))

        threading.Timer(seconds, go_on).start()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        self._watcher.join()

    def report(self) -> dict[str, Any]:
        """Kills by role, and seconds from a kill until another worker took calls in the dead one's place."""
        seconds = [death.recovered - death.killed for death in self.deaths if death.recovered]
        return {
            "kills": {role: sum(d.role == role for d in self.deaths) for role in ("evaluator", "reconstructor")},
            "recovered": len(seconds),
            "recovery_seconds_p50": round(median(seconds), 3) if seconds else None,
            "recovery_seconds_max": round(max(seconds), 3) if seconds else None,
        }

    def _pick(self, pool: RayPool, role: str) -> Worker | None:
        spared = self._spared if role == "evaluator" else ()
        out = {id(death.actor) for death in self.deaths} | self._stopped
        well = [w for w in pool._workers if w.ready and id(w.actor) not in out and w.number not in spared]
        return self._random.choice(well) if well else None

    def _watch(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            for death in list(self.deaths):
                if death.killed and not death.recovered:
                    now = next((w for w in list(death.pool._workers) if w.number == death.number), None)
                    if now is not None and now.ready and now.actor is not death.actor:
                        death.recovered = time.monotonic()
