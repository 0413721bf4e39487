"""Transfer: bytes on their way from a source into the store, shown to whoever hashes them, once."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from dualreg.image.digest import Digest, Hasher
from dualreg.image.names import UploadId
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.storage.base import Adopt, BlobStore, read_chunks, tap

#: What no source is to blame for, nor the path of one file: where we write is full, or gone.
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPIPE)


class Way(StrEnum):
    """How bytes come over."""

    AUTO = "auto"
    HARD = "hard"
    COPY = "copy"


class Checked:
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
            raise Broken(Kind.CORRUPT, str(self._digest), f"its bytes are {self._hasher.digest()}")


def stage(
    store: BlobStore, upload: UploadId, source: SourceBytes, way: Way, update: Callable[[bytes], None]
) -> None:
    """Make the source's bytes the upload's, and show them to *update*.

    What is shown is what was staged, whatever happens to the source's file meanwhile.

    Args:
        way: HARD shares the file with the source, which must not write any more; AUTO shares its blocks
            where the file system can, and copies otherwise.
    """
    if _is_shared(store, upload, source, way):
        with store.reopen(upload) as reader:
            for chunk in read_chunks(reader):
                update(chunk)
    else:
        with source.open() as reader:
            store.append(upload, tap(read_chunks(reader), update), offset=0)


def show(source: SourceBytes, update: Callable[[bytes], None]) -> None:
    """Read the source's bytes, and leave them where they are."""
    with source.open() as reader:
        for chunk in read_chunks(reader):
            update(chunk)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Say of *where* that it cannot be read, if the block fails to.

    Raises:
        Broken: so it is.
        OSError: a full disk of ours.
    """
    try:
        yield
    except OSError as error:
        if is_ours(error):
            raise
        raise Broken(Kind.CORRUPT, where, f"it cannot be read ({error})") from error


def is_ours(error: OSError) -> bool:
    """Tell whether everything else would fail by the same error, too, such as a full disk."""
    return error.errno in _OURS


def _is_shared(store: BlobStore, upload: UploadId, source: SourceBytes, way: Way) -> bool:
    if way is Way.COPY or source.path is None or not isinstance(store, Adopt):
        return False
    return store.adopt(upload, source.path, hard=way is Way.HARD)
