"""Column types that carry our values in and out of SQL."""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator, TypeEngine

from dualreg.image.digest import Digest
from dualreg.image.names import NAME_LIMIT

#: ``sha512:`` and 128 digits.
_DIGEST_LIMIT = 135


class DigestColumn(TypeDecorator[Digest]):
    """A Digest, kept in wire form."""

    impl = String(_DIGEST_LIMIT)
    cache_ok = True

    def process_bind_param(self, value: Digest | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- the base class's signature
        """Write the wire form."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Digest | None:  # noqa: ARG002 -- the base class's signature
        """Split the wire form; what was written needs no checking."""
        return None if value is None else Digest(*value.split(":"))


class NameColumn(TypeDecorator[str]):
    """A name that sorts by its bytes everywhere: paging depends on it, and locale-aware collations differ."""

    impl = String(NAME_LIMIT)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- the base class's signature
        """Cut at a NUL, which PostgreSQL cannot take: no name has one, so nothing sorts between."""
        return None if value is None else value.partition("\0")[0]

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Ask PostgreSQL for byte order; it is SQLite's default."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(String(NAME_LIMIT, collation=collation))


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant in UTC; SQLite keeps no zone, so it is taken off and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- the base class's signature
        """Write in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- the base class's signature
        """Read as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
