"""Keys: what the registry itself signs with; one for all its processes, made on first need."""

from functools import cached_property

from dualreg.catalog.database import Catalog
from dualreg.catalog.signing import signing_key
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
        """The key of schema 1 manifests."""
        return signing_key(self._catalog, _SCHEMA1)
