"""A line to an actor: calls and answers over a connection of their own, a tenth of what a call through Ray takes.

Ray starts the actor, says where it is, and hands it a secret; whoever connects must show it. Then messages go to and fro,
several arrays in each, and the caller never waits for one line alone: a worker that stands still holds nobody up.
"""

from __future__ import annotations

import hmac
import pickle
import select
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from glr_dist.workers.frames import Frames, Reader, exactly, message, pickled, unpickled

SECRET = 32  # bytes of each half: one shows who calls, the other who answers
_CONNECT_SECONDS = 2.0
_ACCEPT_SECONDS = 60.0
_SILENT_SECONDS = 30  # without a sign of life from the other machine, after which the line is dead


class LineError(Exception):
    """The line is cut: the worker died, or its machine can't be reached."""


class Ticket:
    """A call that was sent down a line, and its answer once that is there."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._frames: Frames | None = None
        self._cut: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether it has been answered, or never will be."""
        return self._frames is not None or self._cut is not None

    def settle(self, frames: Frames | None, cut: Exception | None = None) -> None:
        """The answer as it came, or why there is none."""
        self._frames, self._cut = frames, cut

    def answer(self) -> Any:
        """What the worker answered.

        Raises:
            LineError: when it was cut off before.
            Exception: what the call raised.
        """
        if self._frames is None:
            raise LineError(str(self._cut)) from self._cut
        sound, answer = unpickled(self._frames)
        if not sound:
            raise answer
        return answer


class Line:
    """The caller's end; nothing here waits."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection that has been opened."""
        connection.setblocking(False)
        self._socket = connection
        self._out: deque[memoryview] = deque()
        self._tickets: deque[Ticket] = deque()  # in the order of their answers
        self._reader = Reader()
        self._cut: Exception | None = None

    @classmethod
    def open(cls, address: tuple[str, int], secret: bytes) -> Line | None:
        """A line to the actor that listens there, or None where nobody can be reached or knows the secret."""
        try:
            connection = socket.create_connection(address, timeout=_CONNECT_SECONDS)
        except OSError:
            return None
        try:
            kept_alive(connection)
            connection.sendall(secret[:SECRET])
            if hmac.compare_digest(exactly(connection, SECRET), secret[SECRET:]):
                return cls(connection)
        except OSError:
            pass
        connection.close()
        return None

    def fileno(self) -> int:
        """Of the connection."""
        return self._socket.fileno()

    @property
    def cut(self) -> Exception | None:
        """Why nothing can be sent any more, as far as `pump` has seen."""
        return self._cut

    @property
    def sending(self) -> bool:
        """Whether a part of what was sent has not left yet."""
        return bool(self._out)

    def send(self, frames: Frames) -> Ticket:
        """Send a call: what `serve` hands on at the other end; as much as can leave at once does."""
        ticket = Ticket(self)
        self._tickets.append(ticket)
        self._out.extend(message(frames))
        self.pump()
        return ticket

    def pump(self) -> None:
        """Send and take in what can be without waiting; settles tickets."""
        if self._cut is None:
            try:
                self._push()
                for frames in self._reader.take(self._socket):
                    self._tickets.popleft().settle(frames)
            except (OSError, IndexError) as error:  # the second: more answers than calls
                self._cut = error
        if self._cut is not None:
            self._out.clear()
            while self._tickets:
                self._tickets.popleft().settle(None, self._cut)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _push(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out[0])
            except BlockingIOError:
                return
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                self._out.popleft()


def push(lines: Iterable[Line], seconds: float) -> None:
    """Wait until all that was sent down some lines has left, but no longer than that."""
    until = time.monotonic() + seconds
    while (busy := [line for line in lines if line.sending]) and (left := until - time.monotonic()) > 0:
        _poll(busy, left)


def settled(tickets: Sequence[Ticket], seconds: float | None) -> list[Ticket]:
    """Those that are done, as soon as one is, or after so many seconds; None: however long it takes."""
    until = None if seconds is None else time.monotonic() + seconds
    lines = list({id(ticket.line): ticket.line for ticket in tickets}.values())
    while not (done := [ticket for ticket in tickets if ticket.done]):
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            break
        _poll(lines, left)
    return done


def _poll(lines: Sequence[Line], seconds: float | None) -> None:
    """Wait for something to happen on some lines, and let it."""
    poll, by_number = select.poll(), {line.fileno(): line for line in lines}
    for number, line in by_number.items():
        poll.register(number, select.POLLIN | (select.POLLOUT if line.sending else 0))
    for number, _ in poll.poll(None if seconds is None else 1000 * seconds):
        by_number[number].pump()


def listen(host: str, secret: bytes, answer: Callable[[Frames], Any], begin: Callable[[], None]) -> tuple[str, int]:
    """Let one caller who knows the secret connect to this process, and answer calls in a thread; where to connect to.

    ``answer`` is given a message's frames, ``begin`` is called once in that thread.
    """
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)

    def run() -> None:
        with listener:
            connection = _accepted(listener, secret)
        if connection is not None:
            begin()
            with connection:
                _serve(connection, answer)

    threading.Thread(target=run, name="line", daemon=True).start()
    return host, int(listener.getsockname()[1])


def _accepted(listener: socket.socket, secret: bytes) -> socket.socket | None:
    """The first connection by somebody who knows the secret, if one comes in time."""
    until = time.monotonic() + _ACCEPT_SECONDS
    while (left := until - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            connection, _ = listener.accept()
        except OSError:
            continue
        try:
            connection.settimeout(_CONNECT_SECONDS)
            kept_alive(connection)
            if hmac.compare_digest(exactly(connection, SECRET), secret[:SECRET]):
                connection.sendall(secret[SECRET:])
                connection.settimeout(None)
                return connection
        except OSError:
            pass
        connection.close()
    return None


def _serve(connection: socket.socket, answer: Callable[[Frames], Any]) -> None:
    """Answer one message after the other until the caller hangs up."""
    reader, waiting = Reader(), deque[Frames]()
    try:
        while True:
            while not waiting:
                select.select([connection], [], [])
                waiting.extend(reader.take(connection))
            try:
                frames = pickled((True, answer(waiting.popleft())))
            except Exception as error:  # the caller's to handle
                frames = pickled((False, _portable(error)))
            for part in message(frames):
                connection.sendall(part)
    except OSError:
        pass


def _portable(error: Exception) -> Exception:
    """An exception that the other end can read, and that says where it was raised."""
    error.add_note(f"in the worker:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:  # whatever keeps it from travelling
        return RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def kept_alive(connection: socket.socket) -> None:
    """Send small messages at once, and find out when the other machine is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _SILENT_SECONDS // 3),
        ("TCP_KEEPINTVL", _SILENT_SECONDS // 6),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 1000 * _SILENT_SECONDS),
    ):
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
