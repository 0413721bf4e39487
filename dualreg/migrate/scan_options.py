"""Asking: how much is asked of a source where every question takes time, and how many at once."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from dualreg.migrate.names import Names
from dualreg.patterns import matches

_Question = TypeVar("_Question")
_Told = TypeVar("_Told")


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What is asked of a live registry; files answer everything at once.

    Attributes:
        names: Only what these choose is asked about.
        dated: Whether it is asked when images were made, as nothing tells when they were pushed.
        trusting: Whether the sizes that manifests state are believed, and blobs not asked for.
        jobs: How many questions at a time.
    """

    names: Names = field(default_factory=Names)
    dated: bool = False
    trusting: bool = False
    jobs: int = 1

    def may_choose(self, repository: str) -> bool:
        """Tell whether a tag of *repository* can be wanted, before it is known which it has."""
        names, called = self.names, self.names.called(repository, repository)
        listed = names.listed is None or not {*map(_repository, names.listed)}.isdisjoint(called)
        included = not names.include or any(
            matches(_repository(pattern), each) for pattern in names.include for each in called
        )
        excluded = any(
            ":" not in pattern and matches(pattern, each) for pattern in names.exclude for each in called
        )
        return listed and included and not excluded

    def each(self, ask: Callable[[_Question], _Told], questions: Iterable[_Question]) -> Iterator[_Told]:
        """Yield what *ask* returns of each question, in their order, however many are asked at a time."""
        if self.jobs == 1:
            yield from map(ask, questions)
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            yield from pool.map(ask, questions)


def _repository(name: str) -> str:
    """Return the repository part of a name or pattern: of a tag, of a digest, or of a whole repository."""
    repository, _, digest = name.partition("@")
    return repository if digest else name.rpartition(":")[0] or name
