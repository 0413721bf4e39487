"""Transfer: bytes on their way from a source into the store, shown to whoever hashes them, once.

What fails is either the source's fault, and one image's bad luck; or ours, and then the run ends.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import BinaryIO

from dualreg.image.digest import Digest, Hasher
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.storage.base import CHUNK_SIZE, read_chunks, tee
from dualreg.storage.staging import Staging

#: What no source is to blame for, nor the path of one file: where we write is full, or gone.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE)


class LinkMode(StrEnum):
    """How bytes come over."""

    AUTO = "auto"
    HARD = "hard"
    COPY = "copy"


class DigestVerifier:
    """A digest, held against the bytes that pass by.

    Attributes:
        size: How many have passed.
    """

    def __init__(self, digest: Digest) -> None:
        """Begin."""
        self._digest, self._hasher = digest, Hasher(digest.algorithm)
        self.size = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._hasher.update(data)
        self.size += len(data)

    @property
    def holds(self) -> bool:
        """Whether they are what the digest says, if there are no more."""
        return self._hasher.digest() == self._digest

    def check(self) -> None:
        """Raise Broken unless they are what the digest says."""
        if not self.holds:
            raise Broken(FindingKind.CORRUPT, str(self._digest), f"its bytes are {self._hasher.digest()}")


def is_of(reader: BinaryIO, digest: Digest) -> bool:
    """Read to the end, and tell whether *digest* is of what there was."""
    checked = DigestVerifier(digest)
    for chunk in read_chunks(reader):
        checked.update(chunk)
    return checked.holds


def stage(
    staged: Staging,
    source: SourceBytes,
    way: LinkMode,
    update: Callable[[bytes], None],
    *,
    where: str = "",
) -> None:
    """Make the source's bytes the upload's, and show them to *update*.

    What is shown is what was staged, whatever happens to the source's file meanwhile.

    Args:
        way: HARD shares the file with the source, which must not write any more; AUTO shares its blocks
            where the file system can, and copies otherwise.
        where: What the source calls these bytes.

    Raises:
        Broken: the source cannot be read.
        OSError: our store cannot be written to, or HARD is not possible.
    """
    if not _is_shared(staged, source, way, where):
        staged.write(tee(chunks_of(source.open, where), update))
        return
    with staged.open() as ours:  # the file is ours, but its blocks are the source's
        for chunk in _read(ours, where):
            update(chunk)


def show(source: SourceBytes, update: Callable[[bytes], None], where: str = "") -> None:
    """Read the source's bytes, and leave them where they are.

    Raises:
        Broken: they cannot be read.
    """
    for chunk in chunks_of(source.open, where):
        update(chunk)


def chunks_of(opened: Callable[[], BinaryIO], where: str) -> Iterator[bytes]:
    """Yield what a source's reader reads; whoever takes the pieces may fail in ways of their own.

    Raises:
        Broken: it cannot be opened, or read.
    """
    with reading(where):
        reader = opened()
    with reader:
        yield from _read(reader, where)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Say of *where* that it cannot be read, if the block, which touches nothing of ours, fails to.

    Args:
        where: Empty: nobody says anything, and errors stay what they are.

    Raises:
        Broken: so it is.
    """
    try:
        yield
    except OSError as error:
        if not where:
            raise
        raise Broken(FindingKind.UNREADABLE, where, f"it cannot be read ({error})") from error


def is_ours(error: OSError) -> bool:
    """Tell whether everything else would fail by the same error, too, such as a full disk."""
    return error.errno in _OURS


def _read(reader: BinaryIO, where: str) -> Iterator[bytes]:
    while True:
        with reading(where):
            chunk = reader.read(CHUNK_SIZE)
        if not chunk:
            return
        yield chunk


def _is_shared(staged: Staging, source: SourceBytes, way: LinkMode, where: str) -> bool:
    if way is LinkMode.COPY or source.path is None:
        return False
    with reading(where):
        source.open().close()  # what fails from now on is not the source's fault
    if way is LinkMode.AUTO:
        return staged.adopt(source.path, hard=False)
    try:
        return staged.adopt(source.path, hard=True)
    except OSError as error:
        text = f"cannot link {source.path}: {error.strerror or error}; use --link copy"
        raise OSError(text) from error
