"""Splicing: bytes of an object store that the kernel moves from its connection to the client's.

They pass through a pipe, and are not copied into this process. It takes that neither side speaks TLS.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

#: Where the server has the client's socket.
_SOCKET = "gunicorn.socket"
#: Bytes that are read, and sent as all others are, with the head; and of the shortest body that is spliced.
_FIRST, _LEAST = 64 << 10, 256 << 10
#: Bytes of a pipe. All those of a user may have 64 MiB; a further one is shorter.  Source: pipe(7).
_PIPE = 512 << 10


def can_splice(reader: object, length: int, environ: Mapping[str, Any]) -> bool:
    """Return whether *length* bytes of *reader* can be sent as ``Spliced``, and are worth it."""
    can_send = getattr(environ.get(_SOCKET), "can_splice", False)
    return length >= _LEAST and can_send and getattr(reader, "can_move", False)


class Spliced:
    """The bytes of a response, for the server's file wrapper, which reads until there are none.

    When it reads for the second time, the head and the first bytes have been sent. Then the others are.
    """

    def __init__(self, reader: Any, length: int, environ: Mapping[str, Any]) -> None:  # noqa: ANN401 -- an ObjectReader
        """Answer a request with *length* bytes of *reader*, which ``can_splice``."""
        self.close = reader.close
        self._reader, self._left = reader, length
        self._socket = environ[_SOCKET]
        self._has_begun = False

    def read(self, size: int) -> bytes:
        """Return the first bytes, or none after sending the others.

        Raises:
            OSError: the object store fails, or the client is gone.
        """
        if not self._has_begun:
            self._has_begun = True
            first: bytes = self._reader.read(min(size, _FIRST))
            self._left -= len(first)
            return first
        with _pipe() as (end, begin):
            while self._left:
                moved = self._reader.move(begin, min(self._left, _PIPE))
                self._socket.splice(end, moved)
                self._left -= moved
        return b""


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Yield where a pipe is read, and where it is written."""
    end, begin = os.pipe()
    try:
        with suppress(OSError):
            fcntl.fcntl(begin, fcntl.F_SETPIPE_SZ, _PIPE)
        yield end, begin
    finally:
        os.close(end)
        os.close(begin)
