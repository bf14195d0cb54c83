"""A small run on a real cluster of several raylets. A program of its own: it shares no Ray with other tests.

Arguments: a folder to work in and a scenario.

* ``grow-and-shrink``: starts a cluster of three nodes of one CPU each, adds a fourth in mid-run, and kills one's raylet.
* ``given``: uses the cluster of RAY_ADDRESS, three nodes of one CPU each; somebody else disturbs it.

Needs tests/support on PYTHONPATH. Prints one JSON object at its end; writes a line into ``FOLDER/steps`` after each step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from small_runs import crews_watched, train_small

from glr_dist.engine.callbacks import Progress
from glr_dist.engine.crew import DRIVER, Crew
from glr_dist.workers.choice import Choice
from glr_dist.workers.pool import Pool

GIVEN_STEPS = 500
GIVEN_STEP_SECONDS = 0.12  # at least: the run must outlast what happens to it
_AT_A_TIME = 0.1  # seconds to wait after each step while the cluster changes


def environment(**variables: str) -> dict[str, str]:
    """What this program needs around it."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | variables


class Disturbance:
    """A ``show`` callback that adds a node, waits until its worker has answered, and then removes another node."""

    def __init__(self, cluster: Cluster, crews: list[Crew], victim: Any) -> None:
        self._cluster, self._crews = cluster, crews
        self._victim = victim
        self._added = 0.0
        self._ready_at = 0
        self.report: dict[str, Any] = {}
        self._last, self.longest_step = 0.0, 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.step > 1:
            self.longest_step = max(self.longest_step, time.monotonic() - self._last)
        pool = self._crews[0].evaluators
        if (
            progress.step == 1
        ):  # steps as small as these are quickest in one process, which is not what is looked at here
            self._crews[0].choice = Choice((DRIVER,))
        if progress.step == 5:
            self.report["nodes_at_first"] = len({member.node for member in pool.members()})
            self._cluster.add_node(num_cpus=1)
            self._added = time.monotonic()
        elif progress.step > 5 and "steps_until_used" not in self.report:
            self._look_at_the_new_one(progress.step, pool)
        elif pool.counts.deaths and "steps_until_missed" not in self.report:
            self.report["steps_until_missed"] = progress.step - self.report["removed_at"]
        elif progress.step > 5 and "steps_until_missed" not in self.report:
            time.sleep(_AT_A_TIME)
        self._last = time.monotonic()

    def _look_at_the_new_one(self, step: int, pool: Pool) -> None:
        time.sleep(_AT_A_TIME)
        if pool.size < 4 or not pool.members()[3].ready:
            return
        self._ready_at = self._ready_at or step
        if pool.members()[3].answered:
            self.report["steps_until_used"] = step - self._ready_at
            self.report["seconds_until_used"] = round(time.monotonic() - self._added, 2)
            self.report["removed_at"] = step
            self._cluster.remove_node(self._victim, allow_graceful=False)


def grow_and_shrink(folder: Path) -> dict[str, Any]:
    """Three nodes, then four, then three."""
    size: dict[str, Any] = {"object_store_memory": 80 * 2**20, "num_cpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    victim, _ = cluster.add_node(**size), cluster.add_node(**size)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with crews_watched() as crews:
            disturbance = Disturbance(cluster, crews, victim)
            keys = {"steps": GIVEN_STEPS, "checkpoint_every": 100, "engine.workers": -1}
            result = train_small(folder / "run", keys, show=disturbance)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return disturbance.report | {"workers_lost": result.workers_lost, "longest_step": disturbance.longest_step}


def given(folder: Path) -> dict[str, Any]:
    """The cluster that is there."""
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
    addresses: list[str] = []
    seconds: list[float] = []

    def show(progress: Progress) -> None:
        if progress.step == 1:
            where = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
            addresses.extend(where[str(member.node)] for member in crews[0].evaluators.members())
        with (folder / "steps").open("a") as file:
            file.write(f"{progress.step}\n")
        time.sleep(GIVEN_STEP_SECONDS)
        seconds.append(time.monotonic())

    with crews_watched() as crews:
        keys = {"steps": GIVEN_STEPS, "checkpoint_every": 100, "engine.workers": 3}
        result = train_small(folder / "run", keys, show=show)
    ray.shutdown()
    longest = max(after - before for before, after in pairwise(seconds))
    return {
        "addresses": sorted(addresses),
        "workers_lost": result.workers_lost,
        "retries": crews[0].evaluators.counts.retries,
        "longest_step": longest,
    }


if __name__ == "__main__":
    scenario = {"grow-and-shrink": grow_and_shrink, "given": given}[sys.argv[2]]
    print(json.dumps(scenario(Path(sys.argv[1]))))
