"""Ctrl-C, SIGTERM and a lost terminal while a run trains: held back until nothing is lost by them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def held_interrupts(idle: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Within: signals are only noted, so no half step is ever saved; from the second on they interrupt while ``idle()``.

    The function tells whether a signal has come. Outside the main thread none does: Python's signals go to that alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        if len(seen) > 1 and idle():
            raise KeyboardInterrupt

    held = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which is how nohup says that the run goes on
        held.append(signal.SIGHUP)
    former = {number: signal.signal(number, note) for number in held}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
