"""Pages of long lists, which commands read one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dualreg.catalog.rows import TagRow
from dualreg.image.names import RepositoryName
from dualreg.operations.session import Listing
from dualreg.registry import Registry
from dualreg.registry.pages import Page

Row = TypeVar("Row")
#: Rows read at a time.
_SIZE = 200


def pages(read: Callable[[int, Row | None], Page[Row]], limit: int | None = None) -> Iterator[Sequence[Row]]:
    """Yield the rows of a list, up to *limit*, page by page.

    Args:
        read: Returns a page, given how many rows it may have, and the row after which it starts; None: it is
            the first one.
    """
    end, left, more = None, limit, True
    while more and left != 0:
        page = read(_SIZE if left is None else min(left, _SIZE), end)
        yield page.rows
        left = None if left is None else left - len(page.rows)
        more, end = page.more, page.end if page.more else None


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


def tag_pages(
    registry: Registry,
    name: RepositoryName,
    *,
    prefix: str = "",
    newest: bool = False,
    limit: int | None = None,
) -> Iterator[Sequence[TagRow]]:
    """Yield the tags of a repository in pages, whatever clients see of them.

    Args:
        newest: Those that were pushed last first, not by name.
    """

    def read(size: int, end: TagRow | None) -> Page[TagRow]:
        after = (end.pushed_at, end.name) if end else None
        return registry.tags.describe(
            name, limit=size, prefix=prefix, newest_first=newest, after=after, reader=None
        )

    return pages(read, limit)
