"""Fault injection: kills, stops, delays or corrupts chosen workers of a running crew, and times recoveries."""

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
from glr_dist.workers.pool import Pool, Worker

_POLL_SECONDS = 0.005
_ANSWER_SECONDS = 60.0  # for a word with a worker on a busy machine


def kill(member: Worker) -> None:
    """SIGKILL a worker that has started."""
    assert member.pid is not None
    with suppress(ProcessLookupError):
        os.kill(member.pid, signal.SIGKILL)


def afflict(member: Worker, change: Callable[[Any], Any], *, delay: float = 0.0) -> None:
    """From now on every answer of a worker comes ``delay`` seconds later and is ``change`` of what it should be."""
    import ray

    class Afflicted:  # travels by value, being local
        def __init__(self, role: Any) -> None:
            self.role = role

        def __getattr__(self, verb: str) -> Callable[..., Any]:
            def answer(*arguments: Any) -> Any:
                time.sleep(delay)
                return change(getattr(self.role, verb)(*arguments))

            return answer

    def wrap(actor: Any) -> None:
        actor.role = Afflicted(actor.role)

    ray.get(member.actor.__ray_call__.remote(wrap), timeout=_ANSWER_SECONDS)


@dataclass(eq=False)
class Death:
    """A kill: who, when, and when another worker took calls in its place (seconds of the monotonic clock)."""

    pool: Pool
    victim: Worker
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
        self._stopped: set[int] = set()  # pids
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
        crew = self._crews[-1]
        pool = crew.evaluators if role == "evaluator" else crew.reconstructors
        victim = self._pick(pool, self._spared if role == "evaluator" else ())
        if victim is None:
            return
        death = Death(pool, victim, role)
        self.deaths.append(death)

        def strike() -> None:
            death.killed = time.monotonic()
            kill(victim)

        threading.Timer(self._random.uniform(0.0, 0.03), strike).start()

    def pause(self, seconds: float) -> None:
        """Stop an evaluator that is well, if there is one, for so long: it neither dies nor answers."""
        victim = self._pick(self._crews[-1].evaluators, self._spared)
        if victim is None or victim.pid is None:
            return
        pid = victim.pid
        self._stopped.add(pid)
        self.pauses += 1
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._stopped.discard(pid)

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

    def _pick(self, pool: Pool, spared: Sequence[int]) -> Worker | None:
        out = {death.victim.pid for death in self.deaths} | self._stopped
        well = [m for m in pool.members() if m.ready and m.pid not in out and m.number not in spared]
        return self._random.choice(well) if well else None

    def _watch(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            for death in list(self.deaths):
                if death.killed and not death.recovered:
                    now = next((m for m in death.pool.members() if m.number == death.victim.number), None)
                    if now is not None and now.ready and now.pid != death.victim.pid:
                        death.recovered = time.monotonic()
