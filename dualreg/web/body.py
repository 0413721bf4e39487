"""Request bodies: the only reader of them.

A body that ends early is one error, however the server shows it.
"""

from collections.abc import Iterator
from contextlib import suppress

from flask import request

from dualreg.errors import BodyTruncated, ManifestTooLarge, SizeMismatch

#: Bytes read at a time. When a chunked body is cut, gunicorn drops what it had gathered for the current read,
#: so this is also what a client may have to send again.
_READ_SIZE = 256 << 10
#: Bytes of a refused body that are read for politeness; a longer one is cut off.
DISCARD_LIMIT = 8 << 20


def body_chunks(*, length: int | None = None) -> Iterator[bytes]:
    """Yield the request's body, whether it came with a Content-Length or chunked.

    Args:
        length: The number of bytes that the client promised by other means (a Content-Range), if it did.

    Raises:
        BodyTruncated: the connection ended before the body did.
        SizeMismatch: the body is whole, but not *length* bytes; nothing is yielded if that shows at once.
    """
    declared = request.content_length
    if None not in (length, declared) and length != declared:
        raise SizeMismatch(promised=length, declared=declared)
    received = 0
    while chunk := _read(received):
        received += len(chunk)
        yield chunk
    # gunicorn ends a truncated Content-Length body like a whole one.
    if declared is not None and received != declared:
        raise BodyTruncated(received=received, declared=declared)
    if length is not None and received != length:
        raise SizeMismatch(promised=length, received=received)


def read_limited(limit: int) -> bytes:
    """Return the request's body whole.

    Raises:
        ManifestTooLarge: it is more than *limit* bytes; no more than a chunk over the limit is read.
        BodyTruncated.
    """
    if (request.content_length or 0) > limit:
        raise ManifestTooLarge(limit=limit)
    body = bytearray()
    for chunk in body_chunks():
        body += chunk
        if len(body) > limit:
            raise ManifestTooLarge(limit=limit)
    return bytes(body)


def discard_rest() -> None:
    """Read what is left of a body that was refused, up to DISCARD_LIMIT bytes.

    A connection closed with bytes unread is reset, and then the client, or nginx, may never see the answer.
    """
    left = DISCARD_LIMIT
    with suppress(BodyTruncated):
        while left > 0 and (chunk := _read(0)):
            left -= len(chunk)


def _read(received: int) -> bytes:
    try:
        return request.stream.read(_READ_SIZE)
    except Exception as error:
        # The server's own exceptions (a reset, a malformed or missing chunk) share no base but Exception, and
        # whatever goes wrong while reading from a client is that client's body ending early.
        raise BodyTruncated(received=received) from error
