"""Layouts: which ranges of which objects are the bytes of an upload to a bucket."""

from threading import Lock

from cachetools import LRUCache, TTLCache

from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage.s3 import Range

#: The least bytes of a range that another one follows, where ranges are joined; and the least share of all of
#: them, so that the largest object, of 5 TiB, consists of fewer than 10,000 parts.
_JOINED, _SHARE = 5 << 20, 1_000
#: Uploads whose layouts a process remembers.
_REMEMBERED = 10_000
#: For how many seconds a process knows that it has deleted the bytes of an upload.
_FORGOTTEN = 600

Layout = tuple[Range, ...]


class Layouts:
    """The layouts of uploads that this process has to do with, as far as they fit."""

    def __init__(self) -> None:
        """Know none."""
        self._known: LRUCache[UploadId, tuple[Layout, Digest | None]] = LRUCache(_REMEMBERED)
        self._forgotten: TTLCache[UploadId, None] = TTLCache(_REMEMBERED, _FORGOTTEN)
        self._lock = Lock()

    def find(self, upload: UploadId) -> Layout | None:
        """Return a layout; None if it is not known."""
        with self._lock:
            found = self._known.get(upload)
        return None if found is None else found[0]

    def keep(self, upload: UploadId, layout: Layout) -> None:
        """Keep a layout, instead of the one that was known."""
        with self._lock:
            if self._known.get(upload, (None, None))[0] != layout:
                self._known[upload] = (layout, None)
            self._forgotten.pop(upload, None)

    def prepare(self, upload: UploadId, digest: Digest) -> None:
        """Remember that the bytes were made the blob *digest*, as long as the layout stays."""
        with self._lock:
            if found := self._known.get(upload):
                self._known[upload] = (found[0], digest)

    def is_prepared(self, upload: UploadId, digest: Digest) -> bool:
        """Return whether the bytes were made the blob *digest*."""
        with self._lock:
            return self._known.get(upload, ((), None))[1] == digest

    def forget(self, upload: UploadId) -> Layout | None:
        """Return a layout, and know from now on that there are no bytes."""
        with self._lock:
            self._forgotten[upload] = None
            found = self._known.pop(upload, None)
        return None if found is None else found[0]

    def has_forgotten(self, upload: UploadId) -> bool:
        """Return whether it is known that there are no bytes."""
        with self._lock:
            return upload in self._forgotten


def length_of(layout: Layout) -> int:
    """Return how many bytes there are."""
    return sum(each.length for each in layout)


def first_of(layout: Layout, length: int) -> Layout | None:
    """Return the first *length* bytes of a layout; None if it has fewer.

    What has no bytes of the upload any more stays in it, so that it is deleted with the others.
    """
    kept, left = list[Range](), length
    for each in layout:
        kept.append(each._replace(length=min(each.length, left)))
        left -= kept[-1].length
    return None if left else tuple(kept)


def may_be_followed(last: int, size: int) -> bool:
    """Return whether another range may follow the last one of an upload, given their lengths."""
    return last >= max(_JOINED, size // _SHARE)
