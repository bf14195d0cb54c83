"""Signals while a run trains: the first waits for the step's end, later ones only for what must not be torn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import outcome, train_small

from glr_dist.engine import driver
from glr_dist.engine.assembly import crew_here
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.interrupts import held_interrupts
from glr_dist.engine.plan import Unit
from glr_dist.engine.task import Task
from glr_dist.store.checkpoint import save_checkpoint


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def idle() -> bool:
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_interrupts(number: int) -> None:
    with held_interrupts(idle) as interrupted:
        assert not interrupted()
        send(number)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            send(number)


def test_no_number_of_signals_interrupts_what_must_not_be_torn() -> None:
    with held_interrupts(lambda: False) as interrupted:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            send(number)
        assert interrupted()


def test_under_nohup_a_lost_terminal_is_no_interrupt() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_interrupts(idle) as interrupted:
            send(signal.SIGHUP)
            assert not interrupted()
    finally:
        signal.signal(signal.SIGHUP, former)


def test_the_former_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with held_interrupts(idle):
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(OSError, match="mid-step"), held_interrupts(idle):
        raise OSError("mid-step")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_outside_the_main_thread_nothing_is_held() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def elsewhere() -> None:
        with held_interrupts(idle) as interrupted:
            seen.extend([interrupted(), signal.getsignal(signal.SIGINT) == before])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False, True]


@pytest.mark.parametrize("moment", ["save_checkpoint", "show"])
def test_a_storm_of_signals_costs_no_step(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the checkpoint is written that the first of them asked for."""

    def storm() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            send(number)

    def show(progress: Progress) -> None:
        if progress.step == 3:
            storm() if moment == "show" else send(signal.SIGINT)

    def saved(*arguments: Any, **named: Any) -> str:
        storm()
        return save_checkpoint(*arguments, **named)

    if moment == "save_checkpoint":
        monkeypatch.setattr(driver, "save_checkpoint", saved)
    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path / "run", show=show)
    assert outcome(tmp_path / "run")["step"] == 3


def test_a_second_signal_while_workers_are_waited_for_interrupts_and_costs_no_step(tmp_path: Path) -> None:
    class Stuck(Evaluator):
        """Never answers in the fifth step, in which it is told to stop, twice."""

        def losses(self, theta: np.ndarray, units: Sequence[Unit], made: Any = None) -> list[np.ndarray]:
            if units[0].step == 4:
                send(signal.SIGINT)
                send(signal.SIGINT)
                raise AssertionError("went on")
            return super().losses(theta, units, made)

    def crew(task: Task, engine: EngineConfig) -> Crew:
        table = task.make_table()
        return crew_here(task, table, evaluator=Stuck(task, table))

    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path / "run", crew=crew)
    assert outcome(tmp_path / "run")["step"] == 4
