"""Column types that convert values to and from SQL. Migrations do not use them; see ``migrations/env.py``."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator, TypeEngine

from dualreg.image.digest import Digest
from dualreg.image.names import NAME_LIMIT

#: Length of the longest digest: ``sha512:`` and 128 digits.
_DIGEST_LIMIT = 135
#: Instants whose text is remembered: most rows of a transaction have the same.
_REMEMBERED = 64


class DigestColumn(TypeDecorator[Digest]):
    """A Digest, stored in wire form."""

    impl = String(_DIGEST_LIMIT)
    cache_ok = True

    def process_bind_param(self, value: Digest | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- the base class's signature
        """Return the wire form."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Digest | None:  # noqa: ARG002 -- the base class's signature
        """Return the digest; what was written needs no validation."""
        return None if value is None else Digest(*value.split(":"))


class NameColumn(TypeDecorator[str]):
    """A name, ordered by its bytes in every database: paging depends on it, and locales differ."""

    impl = String(NAME_LIMIT)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- the base class's signature
        """Cut at a NUL, which PostgreSQL refuses: no name contains it, so comparisons give the same."""
        return None if value is None else value.partition("\0")[0]

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Return a type in byte order, which is the default in SQLite only."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(String(NAME_LIMIT, collation=collation))


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant in UTC. SQLite stores no zone, so it is restored on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Return what converts values for the driver; for SQLite faster than SQLAlchemy's own."""
        return _sqlite_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- the base class's signature
        """Return the instant in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- the base class's signature
        """Return the instant, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@lru_cache(maxsize=_REMEMBERED)
def _sqlite_text(value: datetime | None) -> str | None:
    """Return the text of an instant as SQLAlchemy writes it to SQLite: in UTC, without a zone."""
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds")[:26]
