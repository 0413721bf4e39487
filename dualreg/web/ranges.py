"""Ranges: the bytes of a blob that a request asks for.  Source: RFC 9110, "Range Requests"."""

import re
from collections.abc import Iterable
from typing import NamedTuple

#: Maximum number of ranges in one response; a client that asks for more gets the whole blob.
SPAN_LIMIT = 16

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

    Returns:
        None to send the whole blob: no range, a malformed one, or more than SPAN_LIMIT.
        An empty list if no range overlaps the blob (416).
    """
    unit, _, text = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    matches = [_SPECIFICATION.fullmatch(part) for part in text.split(",", 10 * SPAN_LIMIT)]
    spans = []
    for match in matches:
        if match is None or not (match[1] or match[2]):
            return None
        span = _span(match[1], match[2], size)
        if span.start < span.end:
            spans.append(span)
    merged = _merge(spans)
    return merged if len(merged) <= SPAN_LIMIT else None


def _span(first: str, last: str, size: int) -> Span:
    if not first:
        return Span(max(0, size - int(last)), size)
    return Span(int(first), min(int(last) + 1 if last else size, size))


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Merge spans that overlap or touch, so that no byte is sent twice."""
    merged: list[Span] = []
    for span in spans:
        overlapping = [other for other in merged if span.start <= other.end and other.start <= span.end]
        for other in overlapping:
            merged.remove(other)
            span = Span(min(span.start, other.start), max(span.end, other.end))  # noqa: PLW2901 -- it grows
        merged.append(span)
    return merged
