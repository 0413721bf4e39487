"""Ranges: which bytes of a blob a request asks for.  Source: RFC 9110, "Range Requests"."""

import re
from collections.abc import Iterable
from typing import NamedTuple

#: Parts of one answer at most; a client that asks for more gets the whole blob.
SPAN_LIMIT = 16

_SPECIFICATION = re.compile(r"[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.ASCII)


class Span(NamedTuple):
    """Bytes from *start* up to but not including *end*."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """Return the header value that says which bytes of *size* these are."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def requested_spans(header: str, size: int) -> list[Span] | None:
    """Return the spans that a ``Range`` header asks for, in its order, overlapping ones joined.

    An end past the last byte is clamped: Docker 0.12 to 1.9 asks for one byte more than there is.

    Returns:
        None to send everything: no range, one that is not understood, or more than SPAN_LIMIT of them.
        An empty list if no byte of the blob is asked for, which is 416.
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
    joined = _join(spans)
    return joined if len(joined) <= SPAN_LIMIT else None


def _span(first: str, last: str, size: int) -> Span:
    if not first:
        return Span(max(0, size - int(last)), size)
    return Span(int(first), min(int(last) + 1 if last else size, size))


def _join(spans: Iterable[Span]) -> list[Span]:
    """Return *spans* with those that overlap or touch made one, so that no byte is sent twice."""
    joined: list[Span] = []
    for span in spans:
        overlapping = [other for other in joined if span.start <= other.end and other.start <= span.end]
        for other in overlapping:
            joined.remove(other)
            span = Span(min(span.start, other.start), max(span.end, other.end))  # noqa: PLW2901 -- it grows
        joined.append(span)
    return joined
