"""Pages: a bounded piece of an ordered list, and whether more follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=str, covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[Name]):
    """Names in byte order.

    Attributes:
        more: Whether the list goes on after the last of *names*.
    """

    names: Sequence[Name]
    more: bool
