"""Preconditions: what a client requires of a reference before it changes it, so that no update is lost."""

from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.database import Transaction
from dualreg.errors import PreconditionFailed
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.upstream import Upstream

#: Matches any manifest.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must be true of a reference before it is written or deleted; None means no requirement.

    Attributes:
        match: It must point at one of these digests, in wire form (ANY: it must exist).
        none_match: It must point at none of these (ANY: it must not exist).
        pushed_at: If it does not exist, it must not have been deleted at or after this time.

    Source: RFC 9110, "If-Match" and "If-None-Match", with digests of manifests as entity tags.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None
    pushed_at: datetime | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether anything is required."""
        return self != UNCONDITIONAL

    def check(self, current: Digest | None) -> None:
        """Check against the digest that the reference points at; None: it does not exist.

        Raises:
            PreconditionFailed.
        """
        tags = frozenset() if current is None else frozenset({str(current), ANY})
        missed = self.match is not None and tags.isdisjoint(self.match)
        if missed or (self.none_match is not None and not tags.isdisjoint(self.none_match)):
            raise PreconditionFailed(current=str(current) if current else None)

    def check_deletion(self, deleted_at: datetime | None) -> None:
        """Check against the time when a reference that does not exist was deleted; None: never.

        Raises:
            PreconditionFailed.
        """
        if self.pushed_at and deleted_at and deleted_at >= self.pushed_at:
            raise PreconditionFailed(current=None)


#: Requires nothing.
UNCONDITIONAL = Precondition()


def load_for_precondition(
    upstream: Upstream, condition: Precondition, repository: RepositoryName, reference: Tag | Digest
) -> None:
    """Load what a condition is checked against from upstream, if this registry does not have it."""
    if condition.is_conditional:
        upstream.load(repository, reference)


def check_precondition(
    tx: Transaction,
    condition: Precondition,
    repository: RepositoryName,
    reference: Tag | Digest,
    digest: Digest | None = None,
) -> None:
    """Check *condition* against what *reference* points at; the repository must be locked.

    Args:
        digest: What it will point at.

    Raises:
        PreconditionFailed.
    """
    if condition.is_conditional:
        row = tx.manifests.find(repository, reference)
        condition.check(None if row is None else row.digest)
        if row is None and condition.pushed_at:
            references = [each for each in (reference, digest) if each is not None]
            condition.check_deletion(tx.deletions.last(repository, *references))
