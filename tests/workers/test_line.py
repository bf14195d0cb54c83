"""Lines carry any message whole, tell when they are cut, and nobody waits for an end that stands still."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from glr_dist.errors import UserError
from glr_dist.workers.frames import pickled, unpickled
from glr_dist.workers.line import Line, LineError, listen, push, settled


def answer(frames: list[Any]) -> Any:
    verb, *arrays = unpickled(frames)
    if verb == "fail":
        raise ZeroDivisionError("by 3")
    if verb == "refuse":
        raise UserError("units.rows is wrong")
    if verb == "local":

        class HomelessError(Exception):
            pass

        raise HomelessError("can't travel")
    if verb == "sleep":
        time.sleep(arrays[0])
    return [array * 2 for array in arrays]


@pytest.fixture
def line() -> Iterator[Line]:
    secret = secrets.token_bytes(64)
    made = Line.open(listen("127.0.0.1", secret, answer, lambda: None), secret)
    assert made is not None
    yield made
    made.close()


def call(line: Line, *arguments: Any) -> Any:
    ticket = line.send(pickled(arguments))
    assert settled([ticket], 20) == [ticket]
    return ticket.answer()


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (3, 0, 5), (2_000_000, 7)])
def test_arrays_of_any_size_come_whole(line: Line, sizes: tuple[int, ...]) -> None:
    arrays = [np.random.default_rng(size).random(size, dtype=np.float32) for size in sizes]
    for _ in range(2):
        found = call(line, "double", *arrays)
        assert [array.tobytes() for array in found] == [(2 * array).tobytes() for array in arrays]
        assert all(array.flags.writeable for array in found)


def test_answers_come_in_order_though_all_calls_are_sent_first(line: Line) -> None:
    tickets = [line.send(pickled(("double", np.full(100_000, number)))) for number in range(20)]
    while not all(ticket.done for ticket in tickets):
        assert settled([ticket for ticket in tickets if not ticket.done], 20)
    assert [ticket.answer()[0][0] for ticket in tickets] == [2 * number for number in range(20)]


def test_what_a_call_raises_is_raised_here_and_the_line_goes_on(line: Line) -> None:
    with pytest.raises(ZeroDivisionError, match="by 3") as caught:
        call(line, "fail")
    assert "in answer" in "".join(caught.value.__notes__)
    with pytest.raises(UserError) as refused:
        call(line, "refuse")
    assert str(refused.value) == "units.rows is wrong"
    with pytest.raises(RuntimeError, match="HomelessError: can't travel"):
        call(line, "local")
    assert call(line, "double", 4) == [8]


def test_who_does_not_know_the_secret_gets_no_line_and_shuts_nobody_out() -> None:
    secret = secrets.token_bytes(64)
    place = listen("127.0.0.1", secret, answer, lambda: None)
    assert Line.open(place, secrets.token_bytes(64)) is None
    assert (
        Line.open(place, secret[:32] + secrets.token_bytes(32)) is None
    )  # knows half of it: takes the line, and drops it
    other = listen("127.0.0.1", secret, answer, lambda: None)
    assert Line.open(other, secrets.token_bytes(64)) is None
    made = Line.open(other, secret)
    assert made is not None
    assert call(made, "double", 1) == [2]
    made.close()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    assert Line.open(("127.0.0.1", port), secret) is None


def far_end(line: Line) -> socket.socket:
    """Another socket in the place of the worker's."""
    mine, other = socket.socketpair()
    os.dup2(mine.fileno(), line.fileno())
    mine.close()
    line._socket.setblocking(False)
    return other


def test_a_line_that_is_cut_says_so_for_every_call_on_it(line: Line) -> None:
    other = far_end(line)
    tickets = [line.send(pickled(("double", 1))) for _ in range(2)]
    threading.Timer(0.1, other.close).start()
    assert settled(tickets, 20) == tickets
    for ticket in (*tickets, line.send(pickled(("double", 1)))):
        assert ticket.done
        with pytest.raises(LineError):
            ticket.answer()


def test_an_end_that_stands_still_holds_nobody_up(line: Line) -> None:
    other = far_end(line)  # reads nothing
    began = time.monotonic()
    ticket = line.send(pickled(("double", np.zeros(4_000_000))))
    push([line], 0.1)
    assert settled([ticket], 0.1) == []
    assert line.sending
    assert time.monotonic() - began < 5
    other.close()


def test_waiting_ends_in_time(line: Line) -> None:
    ticket = line.send(pickled(("sleep", 0.5)))
    began = time.monotonic()
    assert settled([ticket], 0.05) == []
    assert time.monotonic() - began < 0.4
    assert settled([ticket], None) == [ticket]
