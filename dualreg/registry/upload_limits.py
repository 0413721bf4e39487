"""Limits of uploads: how many a client may have open, and how many bytes they may hold."""

from typing import NamedTuple

from dualreg.catalog.rows import OtherUploads
from dualreg.errors import TooManyStagedBytes, TooManyUploads

#: When to try again, in seconds: clients that wait do not wait longer than a minute, some times over.
_RETRY_AFTER = 10


class UploadLimits(NamedTuple):
    """The limits; None: there is none.

    Attributes:
        open: Uploads of one client.
        own: Bytes of the uploads of one client.
        total: Bytes of the uploads of all clients.
    """

    open: int | None = None
    own: int | None = None
    total: int | None = None

    def require(self, others: OtherUploads, size: int) -> None:
        """Check that an upload may have *size* bytes beside *others*.

        Raises:
            TooManyStagedBytes: it may not. The body ends here.
        """
        for limit, other, holder in (
            (self.own, others.own, "one client"),
            (self.total, others.total, "all clients together"),
        ):
            if limit is not None and other + size > limit:
                raise TooManyStagedBytes(holder=holder, limit=limit, retry_after=_RETRY_AFTER)

    def too_many(self) -> TooManyUploads:
        """Return the error of a client that has as many open uploads as it may."""
        return TooManyUploads(limit=self.open or 0, retry_after=_RETRY_AFTER)
