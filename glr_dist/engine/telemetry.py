"""A run's figures on Ray's Prometheus endpoint, for whoever watches the cluster. Sampled beside the steps, never in them.

Each is tagged with the run's name; Ray puts ``ray_`` before the names and Prometheus' ``_total`` behind counters.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from glr_dist.engine.crew import Crew
from glr_dist.engine.driver import Driver

GAUGES = {
    "glr_dist_noisy_forwards_per_second": "Noisy forward passes a second, over the latest sampling period.",
    "glr_dist_step_seconds": "Seconds a step took, the mean over the latest sampling period.",
    "glr_dist_units_in_flight": "Work units that evaluators have and that nobody has answered.",
}
COUNTERS = {
    "glr_dist_steps": "Optimizer steps done.",
    "glr_dist_retries": "Calls handed out again: their worker died or took too long.",
    "glr_dist_workers_lost": "Workers that died and were replaced.",
    "glr_dist_bytes_up": "Bytes of losses from evaluators to the driver.",
    "glr_dist_bytes_down": "Bytes of parameters and work units from the driver to evaluators.",
}
_PERIOD = 1.0  # seconds between samples


@contextmanager
def ray_metrics(driver: Driver, crew: Crew) -> Iterator[None]:
    """Within: the run's figures are sampled every second and given to Ray. Does nothing where no actors are at work."""
    if not crew.remote:
        yield
        return
    sampler = Sampler(driver, crew)
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_PERIOD):
            sampler.publish()

    thread = threading.Thread(target=sample, name="ray-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        sampler.finish()


class Sampler:
    """Reads the driver and the crew, which another thread is changing, and publishes what happened since the last time."""

    def __init__(self, driver: Driver, crew: Crew, now: Callable[[], float] = time.monotonic) -> None:
        """Count from here; ``now`` tells the seconds."""
        from ray.util.metrics import Counter, Gauge

        self._driver, self._crew = driver, crew
        self._gauges = {name: Gauge(name, text, tag_keys=("run",)) for name, text in GAUGES.items()}
        self._counters = {name: Counter(name, text, tag_keys=("run",)) for name, text in COUNTERS.items()}
        self._tags = {"run": driver.run.name}
        self._counted = dict.fromkeys(COUNTERS, 0)
        self._counted["glr_dist_steps"] = driver.step  # of a resumed run, what is done now
        self._forwards, self._last_step = driver.clock.noisy_forwards, driver.step
        self._now = now
        self._when = self._step_when = now()

    def publish(self) -> None:
        """One sample."""
        now, step, forwards = self._now(), self._driver.step, self._driver.clock.noisy_forwards
        self._set("glr_dist_units_in_flight", self._crew.units_in_flight)
        self._set("glr_dist_noisy_forwards_per_second", (forwards - self._forwards) / max(now - self._when, 1e-9))
        # in a period without a step's end: what the step has taken so far
        self._set("glr_dist_step_seconds", (now - self._step_when) / max(step - self._last_step, 1))
        if step > self._last_step:
            self._last_step, self._step_when = step, now
        self._forwards, self._when = forwards, now
        self._count_all()

    def finish(self) -> None:
        """The counters' last values; nothing is under way any more."""
        self._set("glr_dist_units_in_flight", 0)
        self._set("glr_dist_noisy_forwards_per_second", 0)
        self._count_all()

    def _count_all(self) -> None:
        self._count("glr_dist_steps", self._driver.step)
        self._count("glr_dist_retries", sum(pool.counts.retries for pool in self._crew.pools))
        self._count("glr_dist_workers_lost", self._crew.workers_lost)
        self._count("glr_dist_bytes_up", self._crew.bytes_up)
        self._count("glr_dist_bytes_down", self._crew.bytes_down)

    def _set(self, name: str, value: float) -> None:
        self._gauges[name].set(value, tags=self._tags)

    def _count(self, name: str, total: int) -> None:
        """Raise a counter to a new total. Ray takes no steps of 0, so one that never moves is not shown."""
        if total > self._counted[name]:
            self._counters[name].inc(total - self._counted[name], tags=self._tags)
            self._counted[name] = total
