"""Tables of what the registry needs to serve it."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Index,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from dualreg.catalog.columns import NameColumn, UtcDateTime
from dualreg.catalog.tables.base import Table


class SigningKeys(Table):
    """A private key of the registry, shared by all its processes."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        Index(
            "uq_signing_keys_purpose",
            "purpose",
            unique=True,
            sqlite_where=text("retired_at IS NULL"),
            postgresql_where=text("retired_at IS NULL"),
        ),
    )

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(16))
    private_key: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Forgotten(Table):
    """What was deleted here, and may still be in the source that images are taken in from on request.

    The ``reference`` is a tag, a manifest's digest, a V1 image's id, or empty for the whole repository.
    """

    __tablename__ = "forgotten"

    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    reference: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class V1Clients(Table):
    """A client that used the V1 API, for one repository or (an empty name) for none."""

    __tablename__ = "v1_clients"

    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(100), primary_key=True)
    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    refused: Mapped[int] = mapped_column(BigInteger)
