"""Conditions: what a client expects to replace, so that two of them cannot overwrite each other unseen."""

from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.database import Transaction
from dualreg.errors import PreconditionFailed
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.upstream import Upstream

#: Stands for any manifest at all.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must hold of a reference before it is written or deleted; each part is absent if None.

    Attributes:
        match: It must be one of these digests, in wire form (ANY: it must exist).
        none_match: It must be none of these (ANY: it must not exist).
        pushed_at: If it does not exist, it must not have been deleted here at that time or later.

    Source: RFC 9110, "If-Match" and "If-None-Match", with manifests' digests as their entity tags.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None
    pushed_at: datetime | None = None

    @property
    def given(self) -> bool:
        """Tell whether anything must hold at all."""
        return self != UNCONDITIONAL

    def check(self, current: Digest | None) -> None:
        """Compare with what the reference is now; None: nothing.

        Raises:
            PreconditionFailed.
        """
        tags = frozenset() if current is None else frozenset({str(current), ANY})
        missed = self.match is not None and tags.isdisjoint(self.match)
        if missed or (self.none_match is not None and not tags.isdisjoint(self.none_match)):
            raise PreconditionFailed(current=str(current) if current else None)

    def check_deletion(self, deleted_at: datetime | None) -> None:
        """Compare with when what is not there any more was deleted; None: it never was.

        Raises:
            PreconditionFailed.
        """
        if self.pushed_at and deleted_at and deleted_at >= self.pushed_at:
            raise PreconditionFailed(current=None)


#: Nothing needs to hold.
UNCONDITIONAL = Precondition()


def load_for_precondition(
    upstream: Upstream, condition: Precondition, repository: RepositoryName, reference: Tag | Digest
) -> None:
    """Take in what a condition is to be compared with, if that is not here."""
    if condition.given:
        upstream.load(repository, reference)


def check(
    tx: Transaction,
    condition: Precondition,
    repository: RepositoryName,
    reference: Tag | Digest,
    digest: Digest | None = None,
) -> None:
    """Hold *condition* against what *reference* is now; the repository must be locked.

    Args:
        digest: What it is to be.

    Raises:
        PreconditionFailed.
    """
    if condition.given:
        row = tx.manifests.find(repository, reference)
        condition.check(None if row is None else row.digest)
        if row is None and condition.pushed_at:
            wanted = [each for each in (reference, digest) if each is not None]
            condition.check_deletion(tx.deletions.last(repository, *wanted))
