"""Faults of the registry itself, which no client can mend."""


class BlobMissing(Exception):
    """The store lacks the bytes of a blob that the catalog lists, or of an upload."""


class BlobDamaged(Exception):
    """Stored bytes differ from their digest, or verified ones from the size that the catalog records."""


class CatalogUnreachable(Exception):
    """The catalog's database cannot be opened, or its schema is not the one this version needs."""


class AuditUnavailable(Exception):
    """The audit log cannot be written, so nothing may be changed."""
