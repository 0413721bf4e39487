"""Keys: what the registry itself signs with; one for all its processes, made on first need."""

from functools import cached_property

from dualreg.catalog.database import Catalog
from dualreg.image.jws import SigningKey

#: What the key is for that generated schema 1 manifests are signed with.
_SCHEMA1 = "schema1"


class Keys:
    """The registry's keys, read once. They live in the catalog, so that every process has the same."""

    def __init__(self, catalog: Catalog) -> None:
        """Read from *catalog*."""
        self._catalog = catalog

    @cached_property
    def schema1(self) -> SigningKey:
        """The key of schema 1 manifests. Processes that make one at once all settle on the first."""
        return self._find() or self._make()

    def _find(self) -> SigningKey | None:
        with self._catalog.read() as tx:
            pem = tx.keys.find(_SCHEMA1)
        return SigningKey.from_pem(pem) if pem else None

    def _make(self) -> SigningKey:
        made = SigningKey.generate()
        with self._catalog.begin() as tx:
            tx.keys.add(made.id, _SCHEMA1, made.pem)
        return self._find() or made
