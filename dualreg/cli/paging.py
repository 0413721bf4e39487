"""Pages of long lists, which commands read and print one after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from dualreg.cli.output import Columns, echo_json
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


def print_pages(
    found: Iterator[Sequence[Row]],
    columns: Columns,
    cells: Callable[[Row], Sequence[str]],
    members: Callable[[Row], Mapping[str, object]],
    *,
    as_json: bool,
) -> int:
    """Print rows as they are read, in a table or each as a line of JSON; return how many there are."""
    count = 0
    for rows in found:
        count += len(rows)
        for row in rows if as_json else ():
            echo_json(members(row), indent=None)
        if not as_json:
            columns.add([cells(row) for row in rows])
    return count
