"""Policies: the rules by which operators forbid changes, as each process remembers them.

A transaction that locks a repository gets the version of the policies along with it. While it is the version
that is remembered, nothing is read. Whoever changes policies waits for those who have locked a repository, so
that what is remembered is never older than the transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import QuotaRow, RepositoryRow
from dualreg.errors import TagImmutable
from dualreg.image.names import RepositoryName
from dualreg.patterns import matches, may_match_below


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies of one version.

    Attributes:
        immutable: The patterns of immutable tags.
        quotas: Those that were counted.
    """

    immutable: tuple[str, ...] = ()
    quotas: tuple[QuotaRow, ...] = ()

    def quotas_of(self, repository: RepositoryName) -> list[QuotaRow]:
        """Return the quotas for which a repository counts."""
        return [quota for quota in self.quotas if matches(quota.pattern, repository)]

    def rule_of(self, repository: RepositoryName, tag: str) -> str | None:
        """Return the first rule that makes a tag immutable; None: no rule does."""
        name = f"{repository}:{tag}"
        return next((pattern for pattern in self.immutable if matches(pattern, name)), None)

    def may_bind(self, repository: RepositoryName) -> bool:
        """Return whether the repository can have an immutable tag."""
        return any(may_match_below(pattern, f"{repository}:") for pattern in self.immutable)

    def bound(self, repository: RepositoryName, tags: Iterable[str]) -> list[str]:
        """Return those of *tags* that are immutable."""
        return [tag for tag in tags if self.rule_of(repository, tag)] if self.may_bind(repository) else []

    def require_movable(self, repository: RepositoryName, tags: Iterable[str]) -> None:
        """Check that existing tags may be moved and deleted.

        Raises:
            TagImmutable: for the first of *tags* that may not.
        """
        for tag in self.bound(repository, tags):
            raise TagImmutable(repository=repository, tag=tag, rule=str(self.rule_of(repository, tag)))


class _Known(NamedTuple):
    """What is remembered, and its version; None: there were never any policies."""

    version: str | None
    policies: PolicySet


class Policies:
    """Remembers the policies of the last version that was read. Threads may share it."""

    def __init__(self) -> None:
        """Remember that there are none."""
        self._known = _Known(None, PolicySet())

    @property
    def known(self) -> PolicySet:
        """The policies that are remembered, which may be old."""
        return self._known.policies

    def of(self, tx: Transaction, repository: RepositoryRow | None) -> PolicySet:
        """Return the policies.

        Args:
            repository: As the transaction has locked it; None: there is none, and the version is read.
        """
        version = repository.policies if repository else tx.policies.version()
        known = self._known
        if known.version != version:
            # They are read after the version, and may be newer: then they are read again next time.
            known = self._known = _Known(version, _read(tx) if version else PolicySet())
        return known.policies


def _read(tx: Transaction) -> PolicySet:
    quotas = (quota for quota in tx.quotas.list() if quota.used is not None)
    return PolicySet(tuple(row.pattern for row in tx.policies.immutable()), tuple(quotas))
