"""Pages: a bounded piece of an ordered list, and whether more follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Name_co = TypeVar("Name_co", bound=str, covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[Name_co]):
    """Names in byte order.

    Attributes:
        more: Whether the list goes on after the last of *names*.
    """

    names: Sequence[Name_co]
    more: bool
