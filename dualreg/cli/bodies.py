"""Bodies: those of requests, handed on as they arrive.

gunicorn's readers collect as many bytes as were asked for, and copy each several times. These hand on what
one call receives. What is a body, and where it ends, is still decided by gunicorn's code.
"""

import re
from collections.abc import Iterator
from typing import Any

from gunicorn.http import body

from dualreg.storage.base import CHUNK_SIZE

#: The end of a chunk, and the line before the next one, unless that is the last.
#: Source: RFC 9112, section 7.1; leading zeros are allowed.
_NEXT_CHUNK = re.compile(rb"\r\n0*([1-9A-Fa-f][0-9A-Fa-f]{0,15})" + body.CHUNK_EXT_RE.pattern + rb"\r\n")


class _LengthReader(body.LengthReader):  # type: ignore[misc]  # gunicorn is untyped
    """A body of known length."""

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes; none if the body or the connection has ended."""
        size = min(size, self.length)
        if not size:
            return b""
        data: bytes = self.unreader.read(None, read_ahead=size)
        if len(data) > size:
            self.unreader.unread(data[size:])
            data = data[:size]
        self.length -= len(data)
        return data


class _ChunkedReader(body.ChunkedReader):  # type: ignore[misc]  # gunicorn is untyped
    """A body in chunked transfer coding."""

    def __init__(self, request: Any, unreader: Any) -> None:  # noqa: ANN401 -- gunicorn's
        """Begin before the first chunk."""
        super().__init__(request, unreader)
        self._held = b""

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes; none if the body has ended."""
        held = self._held or next(self.parser, b"")
        self._held = held[size:]
        return held[:size]

    def parse_chunked(self, unreader: Any) -> Iterator[bytes]:  # noqa: ANN401 -- gunicorn's
        """Yield the content that each call receives, of all chunks together."""
        left, rest = self.parse_chunk_size(unreader)
        while left:
            data, left, rest = _decode(left, rest)
            if data:
                yield data
            if left:
                rest = unreader.read(None, read_ahead=CHUNK_SIZE)
                if not rest:
                    raise body.NoMoreData
            else:
                left, rest = self._next_size(unreader, rest)

    def _next_size(self, unreader: Any, rest: bytes) -> tuple[int, bytes]:  # noqa: ANN401 -- gunicorn's
        """Return the size of the next chunk, and what follows it; *rest* begins where the last one ends."""
        while len(rest) < len(b"\r\n") and (more := unreader.read()):
            rest += more
        if not rest.startswith(b"\r\n"):
            raise body.ChunkMissingTerminator(rest[:2])
        size, rest = self.parse_chunk_size(unreader, data=rest[2:])
        return size, rest


def _decode(left: int, data: bytes) -> tuple[bytes, int, bytes]:
    """Decode *data*, which begins inside a chunk of which *left* bytes are missing.

    Returns:
        The content, the bytes that are missing of the last chunk, and what follows it: not the usual line.
    """
    view, at, pieces = memoryview(data), 0, []
    while piece := view[at : at + left]:
        pieces.append(piece)
        at += len(piece)
        left -= len(piece)
        found = None if left else _NEXT_CHUNK.match(data, at)
        if not found:
            break
        left, at = int(found[1], 16), found.end()
    return b"".join(pieces), left, data[at:]


class Body(body.Body):  # type: ignore[misc]  # gunicorn is untyped
    """The body of a request, which can also be read as it arrives."""

    @property
    def is_read(self) -> bool:
        """Whether all of it was read, as far as its length says that."""
        return not (getattr(self.reader, "length", 1) or self.buf.tell())

    def read1(self, size: int) -> bytes:
        """Return up to *size* bytes, what has arrived; wait for more only if that is nothing.

        Raises:
            Exception: one of gunicorn's, which share no other class: the body is malformed or cut short.
        """
        collected = self.buf.tell()
        data: bytes = self.read(min(size, collected)) if collected else self._read_reader(size)
        return data


def stream(request: Any) -> None:  # noqa: ANN401 -- gunicorn's
    """Let the body of a request be read as it arrives, in the way that gunicorn chose."""
    reader = request.body.reader
    length = None if isinstance(reader, body.ChunkedReader) else reader.length
    request.body = body_of(request, length)


def body_of(request: Any, length: int | None) -> Body:  # noqa: ANN401 -- gunicorn's
    """Return the body of a request, which is *length* bytes long; None: it is sent in chunks."""
    if length is None:
        return Body(_ChunkedReader(request, request.unreader))
    return Body(_LengthReader(request.unreader, length))
