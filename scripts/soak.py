"""Trains for a long time while workers are killed and stopped at random, and checks that nothing changed and nothing grew.

Three evaluators and two reconstructors on a Ray of their own. Every six seconds or so one of them is SIGKILLed, or an
evaluator is stopped for a while. In the end the same steps are trained again in this process alone: parameters and journal
must be equal bit for bit. The first evaluator is never harmed, so that its memory can be followed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
from faults import Killer
from rich.console import Console
from rich.table import Table

from glr_dist.config import Config, parse_config
from glr_dist.engine import session
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.task import Task
from glr_dist.runs.network import read_origin
from glr_dist.store.journal import JournalReader
from glr_dist.store.storage import Storage

EVALUATORS, RECONSTRUCTORS = 3, 2
FAULT_SECONDS = 6.0  # mean time between faults
QUIET_SECONDS = 30.0  # without faults, at the end
STOPPED_SECONDS = (1.0, 5.0)
SAMPLE_SECONDS = 1.0
WARM_UP = 0.25  # of the samples
GROWTH = 0.05  # of the resident memory, allowed after the warm-up


def config(workers: int, reconstructors: int) -> Config:
    """A threshold network on the digits, trained by its 0-1 loss: a bit per loss, so a long journal stays small."""
    keys = {
        "steps": 10**8,
        "batch": 64,
        "loss": "zero-one",
        "journal": "on",
        "validate_every": 500,
        "checkpoint_every": 500,
        "data.name": "digits",
        "data.shards": 2,
        "model.hidden": [50],
        "estimator.scheme": "joint",
        "estimator.copies": 16,
        "units.rows": 16,
        "engine.workers": workers,
        "engine.reconstructors": reconstructors,
    }
    return parse_config("", keys)


class Memory:
    """Samples processes' resident memory of their own, in bytes: without the object store's, which all of them share."""

    def __init__(self) -> None:
        self.samples: dict[str, list[int]] = {}
        self._pids: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._thread.start()

    def follow(self, name: str, pid: int) -> None:
        """Sample this process from now on."""
        self.samples[name] = []
        self._pids[name] = pid

    def close(self) -> None:
        """Stop sampling."""
        self._over.set()
        self._thread.join()

    def report(self, name: str) -> dict[str, float]:
        """MB in the first and in the last quarter of the samples after the warm-up, and the growth between them."""
        samples = self.samples[name][int(WARM_UP * len(self.samples[name])) :]
        quarter = max(1, len(samples) // 4)
        first, last = median(samples[:quarter]), median(samples[-quarter:])
        return {
            "mb_first": round(first / 2**20, 1),
            "mb_last": round(last / 2**20, 1),
            "growth": round(last / first - 1, 4),
        }

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for name, pid in list(self._pids.items()):
                _, resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[:3])
                self.samples[name].append((resident - shared) * os.sysconf("SC_PAGE_SIZE"))


class Faults:
    """A ``show`` callback that does some harm now and then, until it is nearly over."""

    def __init__(self, crews: list[Crew], memory: Memory, killer: Killer, seconds: float, seed: int) -> None:
        self._crews, self._memory, self._killer = crews, memory, killer
        self._random = random.Random(seed)
        self._seconds, self._end, self._next = seconds, 0.0, 0.0

    def __call__(self, progress: Progress) -> None:
        """After a step."""
        now = time.monotonic()
        if not self._end:  # the first step is done: everybody is at work
            self._end, self._next = now + self._seconds - QUIET_SECONDS, now
            self._memory.follow("driver", os.getpid())
            first = self._crews[0].evaluators.members()[0]
            assert first.pid is not None
            self._memory.follow("evaluator", first.pid)
        if self._next <= now < self._end:
            self._next = now + self._random.expovariate(1 / FAULT_SECONDS)
            fault = self._random.choices(("evaluator", "reconstructor", "stop"), (4, 3, 3))[0]
            if fault == "stop":
                self._killer.pause(self._random.uniform(*STOPPED_SECONDS))
            else:
                self._killer.kill(fault)


def soak(folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Train with faults for so long; returns the figures."""
    import ray

    ray.init(
        address="local",
        num_cpus=EVALUATORS + RECONSTRUCTORS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    memory = Memory()
    crews: list[Crew] = []
    killer = Killer(crews, seed=seed, spared=(0,))

    def watched(task: Task, engine: EngineConfig) -> Crew:
        crews.append(assemble_crew(task, engine))
        return crews[-1]

    try:
        show = Faults(crews, memory, killer, seconds, seed)
        chosen = config(EVALUATORS, RECONSTRUCTORS)
        result = session.train(config=chosen, run_dir=folder, seconds=seconds, show=show, crew=watched)
    finally:
        killer.close()
        memory.close()
        ray.shutdown()
    return {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "workers_lost": result.workers_lost,
        "stops": killer.pauses,
        **killer.report(),
        "driver": memory.report("driver"),
        "evaluator": memory.report("evaluator"),
    }


def train_alone(folder: Path, steps: int) -> None:
    """The same steps in this process, without Ray."""

    def stop(progress: Progress) -> None:
        if progress.step == steps:
            raise KeyboardInterrupt  # the driver's way to end early, with a checkpoint

    try:
        session.train(config=config(0, 0), run_dir=folder, show=stop)
    except KeyboardInterrupt:
        return


def differences(one: Path, other: Path) -> list[str]:
    """What two runs do not have in common, bit for bit."""
    runs = [Storage.at(one), Storage.at(other)]
    ends = [read_origin(place) for place in (one, other)]
    found = [key for key in ("step", "params_sha256") if getattr(ends[0], key) != getattr(ends[1], key)]
    journals = [JournalReader(run) for run in runs]
    if journals[0].steps() != journals[1].steps():
        return [*found, "journalled steps"]
    for step in journals[0].steps():
        rows = [[(r.site, r.unit, r.seed, r.losses.tobytes()) for r in journal.read(step)] for journal in journals]
        if rows[0] != rows[1]:
            return [*found, f"the journal of step {step}"]
    return found


def failures(figures: dict[str, Any]) -> list[str]:
    """What is not as it should be, a line each."""
    found = [f"differs from the run in one process: {name}" for name in figures["differences"]]
    for name in ("driver", "evaluator"):
        if figures[name]["growth"] > GROWTH:
            found.append(f"the memory of the {name} grew by {figures[name]['growth']:.1%}; {GROWTH:.0%} are allowed")
    kills = sum(figures["kills"].values())
    if not kills:
        found.append("nobody was killed: give it more --minutes")
    if figures["recovered"] < kills:
        found.append(f"{kills - figures['recovered']} of {kills} killed workers were not replaced")
    return found


def shown(figures: dict[str, Any]) -> dict[str, str]:
    """The table's rows."""
    memory = {name: figures[name] for name in ("driver", "evaluator")}
    return {
        "steps": f"{figures['steps']} in {figures['seconds']:.0f} s",
        "kills survived": ", ".join(f"{number} {role}s" for role, number in figures["kills"].items()),
        "evaluators stopped": str(figures["stops"]),
        "recovery from a death": f"{figures['recovery_seconds_p50']} s (p50), {figures['recovery_seconds_max']} s (max)",
        **{
            f"memory, {n}": f"{m['mb_first']} MB, later {m['mb_last']} MB ({m['growth']:+.1%})"
            for n, m in memory.items()
        },
        "against one process": ", ".join(figures["differences"]) or "equal, bit for bit",
    }


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.5), default=30.0, show_default=True, help="How long to train.")
@click.option("--seed", default=0, show_default=True, help="Of the faults.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(minutes: float, seed: int, as_json: bool) -> None:
    """Train while workers are killed at random; compare with a run in one process, and watch the memory."""
    with tempfile.TemporaryDirectory(prefix="glr_dist_soak_") as folder:
        disturbed, alone = Path(folder) / "disturbed", Path(folder) / "alone"
        with contextlib.redirect_stdout(sys.stderr):  # where Ray tells of every worker that died, log_to_driver or not
            figures = soak(disturbed, 60 * minutes, seed)
        train_alone(alone, figures["steps"])
        figures["differences"] = differences(disturbed, alone)
    found = failures(figures)
    if as_json:
        print(json.dumps(figures | {"failures": found}))
    else:
        table = Table("", "", title="Soak")
        for name, value in shown(figures).items():
            table.add_row(name, value)
        Console().print(table)
    for line in found:
        print(f"FAILED: {line}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
