"""Quotas: how many bytes repositories may have together."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualreg.catalog.rows import QuotaRow
from dualreg.operations.session import Group


@dataclass(frozen=True)
class QuotaLimits(Group):
    """Quotas."""

    def set(self, pattern: str, size: int, soft: int | None = None) -> QuotaRow:
        """Limit how many bytes the repositories that match a pattern have together.

        Pushes wait while what is used is counted.

        Args:
            pattern: Of repositories, in which * matches anything.
            size: The limit, in bytes.
            soft: From how many bytes on answers to pushes have a warning; null: there is none.

        Raises:
            ValueError: the pattern or one of the numbers is invalid.
        """
        used = self.session.registry.quotas.set(QuotaRow(pattern, size, soft))
        self.session.record("quota set", pattern=pattern, size=size, soft=soft)
        return QuotaRow(pattern, size, soft, used)

    def remove(self, pattern: str) -> None:
        """Remove a quota.

        Args:
            pattern: That of the quota.

        Raises:
            ValueError: there is none.
        """
        self.session.registry.quotas.remove(pattern)
        self.session.record("quota remove", pattern=pattern)

    def list(self) -> Sequence[QuotaRow]:
        """List the quotas and what is used of them, in bytes."""
        return self.session.registry.quotas.list()
