"""Downloads: the only module that sends blobs and layers, for both dialects.

The bytes are sent by the first of these that is available: an object store (a redirect), nginx
(``X-Accel-Redirect``), the kernel (``wsgi.file_wrapper``, which is sendfile, or ``splicing`` from an object
store), this process. It sends what is still on its way here.
"""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any, Protocol

from flask import Response, request

from dualreg.catalog.rows import BlobRow
from dualreg.errors import RegistryError, ServerBusy, UpstreamBusy
from dualreg.image import media_types
from dualreg.registry.blobs import Blobs
from dualreg.registry.upstream import ComingBlob, GrowingFile
from dualreg.settings.redirects import redirects_of
from dualreg.web.accel import let_remember
from dualreg.web.context import followers, late, registry, settings, slots
from dualreg.web.forwarded import client_address
from dualreg.web.ranges import Span, requested_spans
from dualreg.web.repeatable import REPEATED_AT_ONCE, repeat_document, repeatable
from dualreg.web.responses import FILE, empty_response
from dualreg.web.splicing import Spliced, can_splice

#: Bytes that are read at once where the kernel does not send them: few enough that the object store goes on
#: sending while they are sent on.
_PIECE = 512 << 10


def send_blob(blob: BlobRow, headers: Mapping[str, str]) -> Response:
    """Return the blob, or the ranges of it that the request asks for.

    The caller has authorized the request. A blob whose file is lost or has another size is unknown. An
    unsatisfiable range gets an empty 416, which Docker 0.12 to 1.9 reads as end of file.

    Raises:
        BlobUnknown: the store does not have all of its bytes.

    Source: RFC 9110, "Range Requests".
    """
    blobs, until = registry().blobs, registry().blobs.unchanged_until(blob)
    fixed = _fixed(blob, headers)
    if request.if_none_match.contains_weak(str(blob.digest)):
        return repeat_document(empty_response(304, {**headers, "ETag": fixed["ETag"]}), until=until)
    spans = _requested_spans(blob)
    if request.method == "GET" and spans == []:
        return empty_response(416, {**headers, "Content-Range": f"bytes */{blob.size}"})
    if request.method == "HEAD":
        blobs.require(blob)
        response = Response(headers=fixed | {"Accept-Ranges": "bytes", "Content-Length": str(blob.size)})
        return repeat_document(response, blob, until=until)
    if url := _url(blob, spans):
        return empty_response(307, {**headers, "Location": url, "Cache-Control": "no-store"})
    if location := _internal_location(blob):
        blobs.open_whole(blob).close()
        response = Response(headers=fixed | {"X-Accel-Redirect": location})  # nginx adds Accept-Ranges
        until = let_remember(response, until)
        repeatable(lambda: b"" if blobs.can_be_sent(blob) else None, until=until)
        return response
    return _bytes(blob, spans, fixed | {"Accept-Ranges": "bytes"})


def send_late(known: bytes, find: Callable[[], BlobRow | None], headers: Mapping[str, str]) -> Response:
    """Return a blob that is being made, once it is there.

    Args:
        known: Its first bytes.
        find: Returns the blob when it is made, after waiting a moment for it; None: it is not yet.

    Raises:
        LayersPending: this client cannot wait for it.
    """
    blobs = registry().blobs

    def look(sent: int) -> Iterator[bytes] | None:
        blob = find()
        return _closing(blobs.open_whole(blob, start=sent), blob.size - sent) if blob else None

    return late().send(known, look, {"Content-Type": media_types.OCTET_STREAM, **headers}, take_slot)


def take_slot() -> Callable[[], None]:
    """Take a slot for the response to this request, which is not here yet; return what gives it back.

    Raises:
        ServerBusy: too many clients wait.
    """
    return slots().take_for_response(client_address())


def send_coming(coming: ComingBlob, headers: Mapping[str, str]) -> Response:
    """Return a blob on its way, or the ranges of it that the request asks for, as its bytes arrive.

    HEAD does not set it on its way. If it does not arrive, the connection is closed early.

    Raises:
        UpstreamBusy: too many clients wait for such blobs.
        RegistryError: upstream does not send it.
    """
    blob = coming.blob
    fixed = _fixed(blob, headers) | {"Accept-Ranges": "bytes"}
    if request.if_none_match.contains_weak(str(blob.digest)):
        return empty_response(304, {**headers, "ETag": fixed["ETag"]})
    spans = _requested_spans(blob)
    if request.method == "HEAD":
        return Response(headers=fixed | {"Content-Length": str(blob.size)})
    if spans == []:
        return empty_response(416, {**headers, "Content-Range": f"bytes */{blob.size}"})
    with ExitStack() as unless_sent:
        unless_sent.callback(_take_place())
        reader = unless_sent.enter_context(closing(coming.open()))
        close = unless_sent.pop_all().close
    return _following(blob, _Followed(reader, close), spans, fixed)


def _take_place() -> Callable[[], None]:
    """Take one of the threads that wait for upstreams; return what gives it back."""
    with ExitStack() as places:
        try:
            places.callback(followers().take(client_address()))
            places.callback(take_slot())
        except ServerBusy as error:
            raise UpstreamBusy(retry_after=error.retry_after) from error
        return places.pop_all().close


def _following(
    blob: BlobRow, reader: "_File", spans: Sequence[Span] | None, headers: dict[str, str]
) -> Response:
    if spans and len(spans) > 1:
        return _multiple(blob, reader, spans, headers)
    span = spans[0] if spans else Span(0, blob.size)
    if spans:
        headers = headers | {"Content-Range": span.content_range(blob.size)}
    headers = headers | {"Content-Length": str(span.length)}
    reader.seek(span.start)
    passed = "wsgi.file_wrapper" in request.environ
    sent = _wrapped(reader, span, request.environ)
    return Response(sent, status=206 if spans else 200, headers=headers, direct_passthrough=passed)


class _Followed:
    """A blob on its way; if it fails, which has been logged, the server is to close the connection.

    Its methods raise ConnectionResetError then, as if the client had left: the server makes no more of that.
    """

    def __init__(self, file: GrowingFile, close: Callable[[], None]) -> None:
        self._file, self.close = file, close
        self.seek, self.tell, self.fileno = file.seek, file.tell, file.fileno

    def read(self, size: int, /) -> bytes:
        with _resetting():
            return self._file.read(size)

    def reach(self, position: int) -> int:
        """Wait for a byte; return how far ``fileno`` has what follows it."""
        with _resetting():
            return self._file.reach(position)


@contextmanager
def _resetting() -> Iterator[None]:
    try:
        yield
    except RegistryError as error:
        raise ConnectionResetError(errno.ECONNRESET, str(error)) from error


def _fixed(blob: BlobRow, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a blob's bytes, whichever of them are sent."""
    return {
        **headers,
        "Content-Type": media_types.OCTET_STREAM,
        "ETag": f'"{blob.digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
    }


def _bytes(blob: BlobRow, spans: Sequence[Span] | None, headers: dict[str, str]) -> Response:
    """Return the blob, or *spans* of it, as this process or the server sends them."""
    if not spans:
        return _single(blob, Span(0, blob.size), 200, headers)
    if len(spans) == 1:
        return _single(blob, spans[0], 206, headers | {"Content-Range": spans[0].content_range(blob.size)})
    return _multiple(blob, registry().blobs.open_whole(blob), spans, headers)


def _url(blob: BlobRow, spans: Sequence[Span] | None) -> str | None:
    """Return where this client fetches the blob itself; None if it does not.

    No object store sends several ranges.
    """
    redirects = redirects_of(settings().s3_redirects)
    if redirects.are_off or len(spans or ()) > 1:
        return None
    if not redirects.include(client_address(), request.user_agent.string):
        return None
    return registry().blobs.url(blob)


def _internal_location(blob: BlobRow) -> str | None:
    """Return the blob's path for nginx, or None if nginx does not send blobs."""
    prefix = settings().x_accel_prefix
    path = registry().blobs.internal_path(blob.digest) if prefix else None
    return path and f"{prefix.rstrip('/')}/{path}"


def _requested_spans(blob: BlobRow) -> list[Span] | None:
    """Return the ranges to send, or None for the whole blob."""
    if request.headers.get("If-Range") not in (None, f'"{blob.digest}"'):
        return None
    return requested_spans(request.headers.get("Range", ""), blob.size)


def _single(blob: BlobRow, span: Span, status: int, headers: dict[str, str]) -> Response:
    """Return one range of the blob; the server's file wrapper, if it has one, respects Content-Length."""
    blobs = registry().blobs
    opened, whole = partial(_open, blobs, blob, span), partial(_read_at_once, blobs, blob, span)
    body = opened(request.environ)
    repeatable(whole, opened, until=blobs.unchanged_until(blob))
    headers = headers | {"Content-Length": str(span.length)}
    passed = "wsgi.file_wrapper" in request.environ
    return Response(body, status=status, headers=headers, direct_passthrough=passed)


def _open(blobs: Blobs, blob: BlobRow, span: Span, environ: dict[str, Any]) -> Iterable[bytes]:
    """Return the bytes of a span, as the server's file wrapper if it has one."""
    return _wrapped(blobs.open_whole(blob, start=span.start, length=span.length), span, environ)


def _wrapped(reader: "_File", span: Span, environ: dict[str, Any]) -> Iterable[bytes]:
    """Return the bytes of a span, of which *reader* is at the first, as the server's file wrapper."""
    environ[FILE] = (reader, span.start)
    wrapper = environ.get("wsgi.file_wrapper")
    is_spliced = can_splice(reader, span.length, environ)
    part = Spliced(reader, span.length, environ) if is_spliced else _Part(reader, span.length)
    return wrapper(part, _PIECE) if wrapper else _closing(reader, span.length)


class _File(Protocol):
    """What is needed of a file to send it."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class _Part:
    """The bytes of a span, for the server's file wrapper: without sendfile, it reads until there are none."""

    def __init__(self, reader: "_File", length: int) -> None:
        self.fileno, self.seek, self.close = reader.fileno, reader.seek, reader.close
        self.reach = getattr(reader, "reach", None)
        self._reader, self._left = reader, length

    def read(self, size: int) -> bytes:
        data = self._reader.read(min(size, self._left))
        self._left -= len(data)
        return data


def _read_at_once(blobs: Blobs, blob: BlobRow, span: Span) -> bytes | None:
    """Return the bytes of a short span, if they are in memory; None of a long one."""
    if span.length > REPEATED_AT_ONCE:
        return None
    return blobs.read_at_once(blob, start=span.start, length=span.length)


def _multiple(blob: BlobRow, reader: "_File", spans: Sequence[Span], headers: dict[str, str]) -> Response:
    """Return several ranges of the blob as one multipart body, as lazy-pulling snapshotters request them.

    *reader* is closed at their end.
    """
    boundary = blob.digest.hex[:32]
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {media_types.OCTET_STREAM}\r\n"
        f"Content-Range: {span.content_range(blob.size)}\r\n\r\n".encode()
        for span in spans
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(span.length for span in spans) + len(tail)

    def body() -> Iterator[bytes]:
        with closing(reader):
            for head, span in zip(heads, spans, strict=True):
                yield head
                reader.seek(span.start)
                yield from _chunks(reader, span.length)
            yield tail

    content_type = f"multipart/byteranges; boundary={boundary}"
    headers = headers | {"Content-Type": content_type, "Content-Length": str(length)}
    response = Response(body(), status=206, headers=headers)
    response.call_on_close(reader.close)
    return response


def _closing(reader: "_File", length: int) -> Iterator[bytes]:
    with closing(reader):
        yield from _chunks(reader, length)


def _chunks(reader: "_File", length: int) -> Iterator[bytes]:
    while length and (chunk := reader.read(min(length, _PIECE))):
        length -= len(chunk)
        yield chunk
