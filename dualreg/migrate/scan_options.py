"""How much to query of a source where each request takes time, and how many requests at a time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from dualreg.migrate.names import Names
from dualreg.migrate.parallel import in_parallel
from dualreg.remote.endpoint import RemoteError
from dualreg.remote.response import Response

#: Bytes of a list of a remote registry, in all its pages, and of what each page takes besides.
_LIST_LIMIT, _PAGE_OVERHEAD = 256 << 20, 2 << 10

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def bounded(pages: Iterable[Response], name: str) -> Iterator[Response]:
    """Yield the pages of the list *name*, which a hostile registry may send without end.

    Raises:
        RemoteError: they are too many, or too large all together.
    """
    size = 0
    for page in pages:
        size += len(page.body) + _PAGE_OVERHEAD
        if size > _LIST_LIMIT:
            raise RemoteError(f"the list {name} has no end")
        yield page


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What to query of a remote registry; files are always read completely.

    Attributes:
        names: Which tags; others are not queried.
        dated: Whether to find out when images were created, as a remote registry has no push dates.
        trusting: Whether to trust the sizes that manifests state, and not to query the blobs.
        jobs: How many requests at a time.
    """

    names: Names = field(default_factory=Names)
    dated: bool = False
    trusting: bool = False
    jobs: int = 1

    def each(self, query: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Return the results of *query* for all items, in order; *jobs* queries run at a time."""
        if self.jobs == 1:
            return map(query, items)
        return in_parallel(query, items, self.jobs)
