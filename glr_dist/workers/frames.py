"""Messages of several frames on a connection: what is pickled, and its large arrays, which are not copied for that.

On the wire: the number of frames, the bytes of each (little-endian, 8 bytes each), then the frames.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

Frames = list[Any]  # what has the buffer protocol


def pickled(value: Any) -> Frames:
    """A value as frames."""
    buffers: list[pickle.PickleBuffer] = []
    written = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [written, *(buffer.raw() for buffer in buffers)]


def unpickled(frames: Frames) -> Any:
    """The value again; its arrays lie in the frames, and may be written to where these may."""
    return pickle.loads(frames[0], buffers=frames[1:])


def message(frames: Frames) -> list[memoryview]:
    """What to put on the wire, one after the other."""
    parts = [memoryview(frame).cast("B") for frame in frames]
    header = struct.pack(f"<{len(parts) + 1}Q", len(parts), *map(len, parts))
    return [memoryview(header), *(part for part in parts if len(part))]


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes off a connection that waits for them."""
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionResetError("the other end has hung up")
        found += part
    return found


class Reader:
    """Takes messages off a connection, piece by piece as they come."""

    def __init__(self) -> None:
        self._left = memoryview(b"")  # of what is being read
        self._begin()

    def take(self, connection: socket.socket) -> list[Frames]:
        """The messages that are whole now, without waiting.

        Raises:
            OSError: when the other end has hung up.
        """
        found: list[Frames] = []
        while True:
            try:
                count = connection.recv_into(self._left, flags=socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            if not count:
                if found:
                    return found  # that it has hung up is told the next time
                raise ConnectionResetError("the other end has hung up")
            self._left = self._left[count:]
            while not len(self._left):
                whole = self._next()
                found += [] if whole is None else [whole]

    def _begin(self) -> None:
        self._count = bytearray(8)  # of frames, as it comes
        self._sizes: bytearray | None = None  # of the frames, as they come
        self._frames: Frames = []
        self._left = memoryview(self._count)

    def _next(self) -> Frames | None:
        """Go on to what comes next, now that one thing has been read; the message, if it is whole."""
        (count,) = struct.unpack("<Q", self._count)
        if self._sizes is None:
            self._sizes = bytearray(8 * count)
            self._left = memoryview(self._sizes)
            return None
        if len(self._frames) == count:
            whole = self._frames
            self._begin()
            return whole
        (size,) = struct.unpack_from("<Q", self._sizes, 8 * len(self._frames))
        self._frames.append(bytearray(size))
        self._left = memoryview(self._frames[-1])
        return None
