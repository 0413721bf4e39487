"""Quotas: how many bytes the repositories that match a pattern may have together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import QuotaRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.patterns import check_pattern, is_for_repositories
from dualreg.registry.counting import exceeded
from dualreg.registry.state import State


@dataclass(frozen=True, slots=True)
class Quotas:
    """Manages quotas, for each of which a blob counts once; not what upstreams have, or what was made here.

    Links count from the transaction that makes them until the one that removes them.
    """

    state: State

    def list(self) -> Sequence[QuotaRow]:
        """Return the quotas with what is used, by pattern."""
        with self.state.catalog.read() as tx:
            return tx.quotas.list()

    def set(self, quota: QuotaRow) -> int:
        """Set a quota, in place of an earlier one of the same pattern; return how many bytes are used.

        Writers wait while they are counted.

        Raises:
            ValueError: the pattern is invalid, a limit is negative, or the soft one is above the other.
        """
        if not is_for_repositories(check_pattern(quota.pattern)):
            raise ValueError(
                f"invalid pattern {quota.pattern!r}; expected a repository name, which may contain *"
            )
        if min(quota.size, quota.soft or 0) < 0:
            raise ValueError("a limit is negative")
        if quota.soft is not None and quota.soft > quota.size:
            raise ValueError("the soft limit is above the limit")
        with self.state.begin() as tx:
            tx.policies.change()
            tx.quotas.set(quota)
            return tx.quotas.count(quota.pattern)

    def remove(self, pattern: str) -> None:
        """Remove a quota.

        Raises:
            ValueError: there is none.
        """
        with self.state.begin() as tx:
            tx.policies.change()
            if not tx.quotas.remove(pattern):
                raise ValueError(f"no quota {pattern}; `dualreg quota list` lists them")

    def require_room(self, repository: RepositoryName, digest: Digest, size: int) -> None:
        """Check that a blob of *size* bytes fits, before a client sends them, if quotas are known to apply.

        What counts is decided when it is linked.

        Raises:
            QuotaExceeded.
        """
        if not size or not self.state.policies.known.quotas_of(repository):
            return
        with self.state.catalog.read() as tx:
            quotas = self.state.policies.of(tx, None).quotas_of(repository)
            used = tx.quotas.used([quota.pattern for quota in quotas], digest)
        for quota in quotas:
            taken, counts = used.get(quota.pattern, (0, True))
            if not counts and taken + size > quota.size:
                raise exceeded(quota, repository, taken, size)

    def count(self, pattern: str) -> int:
        """Count what is used of a quota from scratch; return the bytes. Writers wait meanwhile."""
        with self.state.begin() as tx:
            tx.policies.change()
            return tx.quotas.count(pattern)

    def count_missing(self) -> None:
        """Count for quotas that came without what is used, as after a rebuild of the catalog."""
        for quota in self.list():
            if quota.used is None:
                self.count(quota.pattern)


def differences(catalog: Catalog) -> Iterator[tuple[QuotaRow, int]]:
    """Yield quotas whose bytes are not those of the blobs that count for them, and these bytes.

    Writers wait while both are read.
    """
    with catalog.read() as tx:
        quotas = [quota for quota in tx.quotas.list() if quota.used is not None]
    for quota in quotas:
        with catalog.begin() as tx:
            tx.policies.bar()
            current = {each.pattern: each for each in tx.quotas.list()}.get(quota.pattern)
            counted = tx.quotas.counted(quota.pattern)
        if current and current.used != counted:
            yield current, counted
