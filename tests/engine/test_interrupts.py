"""Ctrl-C between steps: the first signal waits for the step's end, the second doesn't."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from glr_dist.engine.driver import held_interrupts


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_interrupts(number: int) -> None:
    with held_interrupts() as interrupted:
        assert not interrupted()
        send(number)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            send(number)


def test_the_former_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with held_interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(OSError, match="mid-step"), held_interrupts():
        raise OSError("mid-step")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_outside_the_main_thread_nothing_is_held() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def elsewhere() -> None:
        with held_interrupts() as interrupted:
            seen.extend([interrupted(), signal.getsignal(signal.SIGINT) == before])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False, True]
