"""Repeated requests: what a client sends once more because the answer to the first try was lost."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from dualreg.storage.base import CHUNK_SIZE


def without_repeated(chunks: Iterable[bytes], stored: BinaryIO, length: int) -> Iterator[bytes]:
    """Yield *chunks*, but without their beginning if that is all of the next *length* bytes of *stored*.

    Those are what came after the client was last told how much there is: it sends them again. If anything is
    different, or there is less, the client continues, and every byte is new.
    """
    start, same, pieces = stored.tell(), 0, iter(chunks)
    for chunk in pieces:
        beginning = chunk[: length - same]
        if stored.read(len(beginning)) != beginning:
            yield from _part(stored, start, same)
            yield chunk
            break
        same += len(beginning)
        if same == length:
            yield chunk[len(beginning) :]
            break
    else:
        yield from _part(stored, start, same)
    yield from pieces


def _part(stored: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """Yield *length* bytes, which were dropped because they are stored."""
    stored.seek(start)
    while length and (chunk := stored.read(min(length, CHUNK_SIZE))):
        length -= len(chunk)
        yield chunk
