"""Pages of long lists, which commands read one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dualreg.operations.session import Listing

Row = TypeVar("Row")
#: Rows read at a time.
_SIZE = 200


def listed(
    read: Callable[[int, str | None], Listing[Row]], limit: int | None = None, after: str | None = None
) -> Iterator[Sequence[Row]]:
    """Yield the rows of a list of an operation, up to *limit*, page by page.

    Args:
        read: Returns a page, given how many rows it may have, and where the page before ended.
        after: Where the first page starts.
    """
    left = limit
    while left is None or left > 0:
        page = read(_SIZE if left is None else min(left, _SIZE), after)
        yield page.rows
        if page.next is None:
            return
        left, after = None if left is None else left - len(page.rows), page.next
