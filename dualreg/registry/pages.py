"""Pages: a bounded part of an ordered list, and whether more follows; and limits of lists without pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dualreg.errors import ListTooLong

Row_co = TypeVar("Row_co", covariant=True)

#: How many entries one request scans to fill its page, where not every entry belongs to the list.
SCAN_LIMIT = 5000


#: How many tags of a repository are listed at once, where a client does not say how many it wants.
TAGS_LIMIT = 100_000
#: How many V1 images of a repository are.
IMAGES_LIMIT = 500_000


def require_short(repository: str, count: int, limit: int, what: str) -> None:
    """Check that a list of *what* a repository has is not too long for one answer.

    Raises:
        ListTooLong: it has more than *limit* entries.
    """
    if count > limit:
        raise ListTooLong(repository=repository, limit=limit, what=what)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row_co]):
    """Entries in the order of their list.

    Attributes:
        more: Whether more entries may follow.
        scanned_to: The last entry scanned, if that is not the last of *rows*: the scan reached its limit, and
            the next page continues it.
    """

    rows: Sequence[Row_co]
    more: bool
    scanned_to: Row_co | None = None

    @property
    def end(self) -> Row_co:
        """The entry after which the next page starts."""
        return self.rows[-1] if self.scanned_to is None else self.scanned_to
