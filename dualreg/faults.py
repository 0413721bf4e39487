"""What is broken here: the operator's business, of which clients learn no more than a 500."""


class BlobMissing(Exception):
    """The catalog says the bytes are there, the store has none: damage, to be reported as a fault of ours."""


class CatalogUnreachable(Exception):
    """The database of relations cannot be opened, or has another schema than this version works with."""


class BlobDamaged(Exception):
    """Bytes that were verified have another size than the catalog recorded for their digest."""
