"""Bytes after the end of gzip layers, with which clients refuse an image ("gzip: invalid header")."""

from dataclasses import dataclass

from dualreg.errors import ImageInvalid
from dualreg.image.layer import TAIL, ends_with_padding, may_be_padded
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import chunks_of

_HEAD = 6
_ZEROS = "zeros follow the compressed layer"


@dataclass
class Ends:
    """The first and last bytes of a blob that is read."""

    head: bytes = b""
    tail: bytes = b""
    size: int = 0

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self.head = (self.head + data[:_HEAD])[:_HEAD]
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        self.size += len(data)

    @property
    def may_be_padded(self) -> bool:
        """Whether something may follow the stream of a gzip layer."""
        return may_be_padded(self.head, self.tail, self.size)


def padding_of(blob: SourceBytes, where: str) -> Finding | None:
    """Read a gzip layer through; return a finding if something follows its stream.

    Raises:
        Broken: it cannot be read.
    """
    try:
        padded = ends_with_padding(chunks_of(blob.open, where))
    except ImageInvalid as error:
        return Finding(FindingKind.BAD_GZIP, where, error.reason)
    return Finding(FindingKind.BAD_GZIP, where, _ZEROS) if padded else None
