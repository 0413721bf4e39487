"""Counting: what is linked and unlinked counts for quotas, in the transaction that does so."""

from collections.abc import Collection, Sequence

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, QuotaRow, RepositoryRow
from dualreg.errors import QuotaExceeded
from dualreg.image.digest import Digest
from dualreg.registry.policies import Policies


def count_links(
    policies: Policies, tx: Transaction, repository: RepositoryRow, blobs: Collection[BlobRow]
) -> Sequence[str]:
    """Count blobs that were just linked to a repository, which is locked, as are their rows.

    Return what to warn the client of.

    Raises:
        QuotaExceeded: they do not fit.
    """
    quotas = policies.of(tx, repository).quotas_of(repository.name)
    if not quotas:
        return ()
    digests = {blob.digest for blob in blobs}
    changed = tx.quotas.add([quota.pattern for quota in quotas], repository.id, digests)
    warnings = []
    for quota in quotas:
        used, new = changed.get(quota.pattern, (0, ()))
        if used > quota.size and (needed := tx.quotas.needed(quota.pattern, repository.id, new)):
            raise exceeded(quota, repository.name, used - needed, needed)
        if quota.soft is not None and used > quota.soft:
            warnings.append(f"{used} of {quota.size} bytes of the quota {quota.pattern} are used")
    return warnings


def count_all_links(
    policies: Policies, tx: Transaction, linked: Sequence[tuple[RepositoryRow, Collection[BlobRow]]]
) -> None:
    """Count what was just linked to several repositories, as ``count_links``.

    All their quotas are locked before, or two of these could wait for each other.
    """
    quotas = (quota for row, _ in linked for quota in policies.of(tx, row).quotas_of(row.name))
    tx.quotas.lock({quota.pattern for quota in quotas})
    for row, blobs in linked:
        count_links(policies, tx, row, blobs)


def require_any_room(policies: Policies, tx: Transaction, repository: RepositoryRow) -> None:
    """Check, before a client sends bytes, that a byte fits.

    Raises:
        QuotaExceeded: a quota of the repository, which is locked, is used up.
    """
    quotas = policies.of(tx, repository).quotas_of(repository.name)
    used = tx.quotas.used([quota.pattern for quota in quotas], None) if quotas else {}
    for quota in quotas:
        taken, _ = used.get(quota.pattern, (0, False))
        if taken >= quota.size:
            raise exceeded(quota, repository.name, taken, 1)


def exceeded(quota: QuotaRow, repository: str, used: int, needed: int) -> QuotaExceeded:
    """Return the error that *needed* bytes do not fit."""
    return QuotaExceeded(
        repository=repository, quota=quota.pattern, used=used, limit=quota.size, needed=needed
    )


def uncount_links(
    policies: Policies, tx: Transaction, repository: RepositoryRow, digests: Collection[Digest]
) -> None:
    """Count blobs no longer that were just unlinked from a repository, which is locked."""
    if digests and policies.of(tx, repository).quotas_of(repository.name):
        tx.quotas.drop(repository.id, digests)
