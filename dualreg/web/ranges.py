"""Ranges: the bytes of a blob that a request asks for.  Source: RFC 9110, "Range Requests"."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from dualreg.errors import RequestInvalid

#: Maximum number of ranges in one request: podman sends this many, and asks for fewer after a 400 only.
SPAN_LIMIT = 1024

_SPECIFICATION = re.compile(r"[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.ASCII)


class Span(NamedTuple):
    """Bytes from *start* up to but not including *end*."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """The length in bytes."""
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """Return the Content-Range of this span of a blob of *size* bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def requested_spans(header: str, size: int) -> list[Span] | None:
    """Return the spans of a ``Range`` header, in its order, overlapping ones merged.

    An end past the last byte is clamped: Docker 0.12 to 1.9 asks for one byte too many.

    No byte is in two spans, so together they are no longer than the blob.

    Returns:
        None to send the whole blob: no range, or a malformed one.
        An empty list if no range overlaps the blob (416).

    Raises:
        RequestInvalid: more than SPAN_LIMIT ranges.
    """
    unit, _, text = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    matches = [_SPECIFICATION.fullmatch(part) for part in text.split(",")]
    if len(matches) > SPAN_LIMIT:
        raise RequestInvalid(reason=f"more than {SPAN_LIMIT} ranges")
    spans = []
    for match in matches:
        if match is None or not (match[1] or match[2]):
            return None
        span = _span(match[1], match[2], size)
        if span.start < span.end:
            spans.append(span)
    return _merge(spans)


def _span(first: str, last: str, size: int) -> Span:
    if not first:
        return Span(max(0, size - int(last)), size)
    return Span(int(first), min(int(last) + 1 if last else size, size))


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that overlap or touch, so that no byte is sent twice; the last one gives the place."""
    merged: list[tuple[int, Span]] = []
    for place, span in sorted(enumerate(spans), key=lambda numbered: numbered[1]):
        if merged and span.start <= merged[-1][1].end:
            before, wider = merged.pop()
            merged.append((max(before, place), Span(wider.start, max(wider.end, span.end))))
        else:
            merged.append((place, span))
    return [span for _, span in sorted(merged)]
