"""Signing keys: one for each purpose, shared by all processes through the catalog."""

from dualreg.catalog.database import Catalog
from dualreg.image.jws import SigningKey


def signing_key(catalog: Catalog, purpose: str) -> SigningKey:
    """Return the current key of the purpose, created if there is none; concurrent processes get the same."""
    return _find(catalog, purpose) or _create(catalog, purpose)


def _find(catalog: Catalog, purpose: str) -> SigningKey | None:
    with catalog.read() as tx:
        pem = tx.keys.find(purpose)
    return SigningKey.from_pem(pem) if pem else None


def _create(catalog: Catalog, purpose: str) -> SigningKey:
    key = SigningKey.generate()
    with catalog.begin() as tx:
        tx.keys.add(key.id, purpose, key.pem)
    return _find(catalog, purpose) or key
