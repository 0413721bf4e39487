"""Downloads: the only sender of blobs and layers, for both dialects.

Who sends, best first: nginx itself (``X-Accel-Redirect``), the kernel (sendfile, where the server has it),
this process.
"""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from flask import Response, request

from dualreg.catalog.rows import BlobRow
from dualreg.image import media_types
from dualreg.storage.base import CHUNK_SIZE
from dualreg.web.context import registry, settings
from dualreg.web.responses import empty

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)


class _Span(NamedTuple):
    """Bytes from *start* up to but not including *end*."""

    start: int
    end: int


def send_blob(blob: BlobRow, headers: Mapping[str, str]) -> Response:
    """Return the blob, or the range of it that the request asks for.

    The caller has checked that it may be read.

    Source: RFC 9110, "Range Requests". An end past the last byte is clamped: Docker 0.12 to 1.9 asks for one
    byte more than there is. A range that cannot be satisfied gets an empty 416, which those clients read as
    end of file.
    """
    fixed = {
        **headers,
        "Content-Type": media_types.OCTET_STREAM,
        "Accept-Ranges": "bytes",
        "ETag": f'"{blob.digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if request.if_none_match.contains(str(blob.digest)):
        return empty(304, {**headers, "ETag": fixed["ETag"]})
    if request.method == "HEAD":
        return Response(headers=fixed | {"Content-Length": str(blob.size)})
    if accelerated := _internal_location(blob):
        return Response(headers=fixed | {"X-Accel-Redirect": accelerated})
    span = _requested_span(blob)
    if span is None:
        return empty(416, {**headers, "Content-Range": f"bytes */{blob.size}"})
    length = span.end - span.start
    fixed["Content-Length"] = str(length)
    status = 200
    if length < blob.size:
        status, fixed["Content-Range"] = 206, f"bytes {span.start}-{span.end - 1}/{blob.size}"
    reader = registry().blobs.open(blob.digest, start=span.start)
    return Response(_body(reader, length), status=status, headers=fixed, direct_passthrough=True)


def _internal_location(blob: BlobRow) -> str | None:
    prefix = settings().x_accel_prefix
    path = registry().blobs.internal_path(blob.digest) if prefix else None
    return path and f"{prefix.rstrip('/')}/{path}"


def _requested_span(blob: BlobRow) -> _Span | None:
    """Return what to send; all of it without a range that we understand; None if the range holds no byte."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    wanted = request.headers.get("If-Range")
    if match is None or match[0] == "bytes=-" or wanted not in (None, f'"{blob.digest}"'):
        return _Span(0, blob.size)
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, blob.size - int(last)), blob.size
    else:
        start, end = int(first), min(int(last) + 1 if last else blob.size, blob.size)
    return _Span(start, end) if start < end else None


def _body(reader: BinaryIO, length: int) -> Iterator[bytes]:
    """Return the response's body: the server's own file sender if it has one, which heeds Content-Length."""
    wrapper = request.environ.get("wsgi.file_wrapper")
    return wrapper(reader, CHUNK_SIZE) if wrapper else _pieces(reader, length)


def _pieces(reader: BinaryIO, length: int) -> Iterator[bytes]:
    with reader:
        while length and (piece := reader.read(min(length, CHUNK_SIZE))):
            length -= len(piece)
            yield piece
