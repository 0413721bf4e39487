"""Signing keys, read and made: one for each purpose, the same for all processes."""

from dualreg.catalog.database import Catalog
from dualreg.image.jws import SigningKey


def signing_key(catalog: Catalog, purpose: str) -> SigningKey:
    """Return the purpose's key, made if need be; processes that make one at once settle on the first."""
    return _find(catalog, purpose) or _make(catalog, purpose)


def _find(catalog: Catalog, purpose: str) -> SigningKey | None:
    with catalog.read() as tx:
        pem = tx.keys.find(purpose)
    return SigningKey.from_pem(pem) if pem else None


def _make(catalog: Catalog, purpose: str) -> SigningKey:
    made = SigningKey.generate()
    with catalog.begin() as tx:
        tx.keys.add(made.id, purpose, made.pem)
    return _find(catalog, purpose) or made
