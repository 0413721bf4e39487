"""Survey: a source looked through once, by its small files only."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.sources.base import SourceTag


class Survey(Protocol):
    """What a source holds, whatever it is that its tags name.

    Attributes:
        tags: Also those that name nothing that is there, and manifests without a tag.
        findings: All that is to be said, in the order of the source.
    """

    tags: list[SourceTag]
    findings: list[Finding]

    def check(self, repository: str, image: str) -> None:
        """Raise Broken if what a tag of *repository* names cannot be taken in."""

    def numbers(self) -> Mapping[str, int]:
        """Return how much of what there is; sizes in bytes."""

    @property
    def size(self) -> int:
        """The bytes of all layers."""

    @property
    def things(self) -> int:
        """How many there are to be read through."""

    def read_through(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        """Yield what reading everything tells beyond what is found already.

        Args:
            advance: Called with each thing (one), and its bytes.
        """


def sort_out(told: Iterable[SourceTag | Finding]) -> tuple[list[SourceTag], list[Finding]]:
    """Return the tags of a source, and what is to be said of them."""
    tags, findings = list[SourceTag](), list[Finding]()
    for each in told:
        if isinstance(each, Finding):
            findings.append(each)
        else:
            tags.append(each)
    return tags, findings


def repositories(tags: Iterable[SourceTag], findings: Iterable[Finding]) -> int:
    """Return how many repositories these are about."""
    empty = {finding.where for finding in findings if finding.kind is FindingKind.EMPTY}
    return len({tag.repository for tag in tags} | empty)
