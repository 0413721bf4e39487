"""Keys: what the registry signs generated manifests with; created on first use, shared by all processes."""

from functools import cached_property

from dualreg.catalog.database import Catalog
from dualreg.catalog.signing import signing_key
from dualreg.image.jws import SigningKey

#: The name of the key in the catalog.
_SCHEMA1 = "schema1"


class Keys:
    """The registry's signing keys, each read from the catalog once."""

    def __init__(self, catalog: Catalog) -> None:
        """Read from *catalog*."""
        self._catalog = catalog

    @cached_property
    def schema1(self) -> SigningKey:
        """The key that signs schema 1 manifests."""
        return signing_key(self._catalog, _SCHEMA1)
