"""Request bodies: the only module that reads them.

A body that ends early is always BodyTruncated, whatever the server raises.
"""

import select
from collections.abc import Iterator
from contextlib import suppress

from flask import request

from dualreg.errors import BodyTruncated, ManifestTooLarge, ServerStopping, SizeMismatch
from dualreg.storage.base import CHUNK_SIZE
from dualreg.web.context import slots, writes
from dualreg.web.current import current_request
from dualreg.web.forwarded import client_address
from dualreg.web.responses import RECEIVED
from dualreg.web.slots import SMALL_BODY

#: When a client may send the rest of a body that a server cut off because it stops, in seconds.
_RETRY_AFTER = 5


def has_body() -> bool:
    """Return whether the request has a body, as its head says."""
    asked = current_request()
    return bool(asked.content_length) or "Transfer-Encoding" in asked.headers


def body_chunks(*, length: int | None = None) -> Iterator[bytes]:
    """Yield the request's body, with a Content-Length or chunked.

    Args:
        length: The number of bytes according to Content-Range, if given.

    Raises:
        BodyTruncated: the connection ended before the body did.
        SizeMismatch: the body is complete, but not *length* bytes; nothing is yielded if Content-Length
            already differs.
        ServerBusy: too many clients are sending bodies; nothing is yielded.
        DiskReserved: the disk is nearly full; what was yielded counts.
    """
    asked = current_request()
    declared, environ = asked.content_length, asked.environ
    if None not in (length, declared) and length != declared:
        raise SizeMismatch(promised=length, declared=declared)
    received = 0
    with slots().for_body(client_address):
        try:
            for chunk in _arriving():
                received += len(chunk)
                yield chunk
                if received > SMALL_BODY:
                    writes().require_room(received=received)
        except _Cut as error:
            raise _truncated(received) from error
        finally:
            environ[RECEIVED] = received  # also of a generator that is dropped after the request
    # gunicorn ends a truncated Content-Length body like a complete one.
    if declared is not None and received != declared:
        raise _truncated(received, declared)
    if length is not None and received != length:
        raise SizeMismatch(promised=length, received=received)


def read_limited(limit: int) -> bytes:
    """Return the complete body of the request.

    Raises:
        ManifestTooLarge: it exceeds *limit* bytes; at most one read more than that is consumed.
        BodyTruncated, ServerBusy.
    """
    if (request.content_length or 0) > limit:
        raise ManifestTooLarge(limit=limit)
    body = bytearray()
    for chunk in body_chunks():
        body += chunk
        if len(body) > limit:
            raise ManifestTooLarge(limit=limit)
    return bytes(body)


def require_client() -> None:
    """Raise BodyTruncated if the client has closed the connection: nobody waits for a response any longer."""
    connection = request.environ.get("gunicorn.socket")
    if connection is not None and _has_left(connection.fileno()):
        raise BodyTruncated(received=0)


def _has_left(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


class _Cut(Exception):
    """The body ended early."""


def _arriving() -> Iterator[bytes]:
    """Yield what arrives of the body.

    Raises:
        _Cut: it ended early; all that arrived was yielded.
    """
    stream = current_request().stream
    read = getattr(stream, "read1", stream.read)  # what is there, if the server says that
    try:
        while chunk := read(CHUNK_SIZE):
            yield chunk
    except Exception as error:
        # The server's exceptions (a reset, a malformed or missing chunk) share no base class but Exception,
        # and any failure to read from a client means that its body ended early.
        with suppress(Exception):
            if rest := read(CHUNK_SIZE):  # what gunicorn's own reader has collected of a chunked body
                yield rest
        raise _Cut from error


def _truncated(received: int, declared: int | None = None) -> BodyTruncated:
    """Return the error, which says whether the server itself cut the body off."""
    if getattr(request.environ.get("gunicorn.socket"), "is_cut", False):
        return ServerStopping(received=received, declared=declared, retry_after=_RETRY_AFTER)
    return BodyTruncated(received=received, declared=declared)
