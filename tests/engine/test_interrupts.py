"""Signals while a run trains: the first waits for the step's end, later ones only for what must not be torn."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from glr_dist.engine.interrupts import held_interrupts


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
