"""Orders: what lists of tags are ordered by, and where a page of one ends."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from dualreg.catalog.rows import TagRow


class TagOrder(StrEnum):
    """What tags are ordered by; with a minus, the greatest comes first. Equal ones are ordered by name."""

    NAME = "name"
    LAST_NAME = "-name"
    PUSHED = "pushed"
    LAST_PUSHED = "-pushed"
    PULLED = "pulled"
    LAST_PULLED = "-pulled"
    SIZE = "size"
    LARGEST = "-size"

    @property
    def key(self) -> str:
        """What is compared, without the direction."""
        return self.removeprefix("-")

    @property
    def is_descending(self) -> bool:
        """Whether what is greatest comes first."""
        return self.startswith("-")

    @property
    def is_indexed(self) -> bool:
        """Whether a page costs what is on it, however many tags there are."""
        return self.key in ("name", "pushed")


class TooManyToOrder(ValueError):
    """More than may be looked at to have tags in an order."""


class TagPlace(NamedTuple):
    """Where a tag is in an order.

    Attributes:
        value: By name, 0; by times, microseconds since the epoch, which is 0 of a tag that was never pulled;
            by size, bytes.
    """

    value: int
    name: str


class OrderedTags(NamedTuple):
    """A page of tags in an order.

    Attributes:
        rows: Tags that were deleted while the page was read are not among them.
        end: After which place the next page begins; None: it has none.
        more: Whether there may be more tags.
    """

    rows: Sequence[TagRow]
    end: TagPlace | None = None
    more: bool = False
