"""Pages: a bounded piece of an ordered list, and whether more follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row_co = TypeVar("Row_co", covariant=True)

#: Entries that one request looks at to fill its page, where not every entry belongs to the list.
SCAN_LIMIT = 5000


@dataclass(frozen=True, slots=True)
class Page(Generic[Row_co]):
    """Entries in the order of their list.

    Attributes:
        more: Whether the list may go on.
        passed: The entry after which it does, if that is not the last of *rows*: looking for more of them
            was put off to the next page, so that a request's work is bounded.
    """

    rows: Sequence[Row_co]
    more: bool
    passed: Row_co | None = None

    @property
    def end(self) -> Row_co:
        """The entry after which the next page begins."""
        return self.rows[-1] if self.passed is None else self.passed
