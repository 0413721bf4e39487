"""Tables of the service itself."""

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
    """Private keys of the registry, shared by all its processes."""

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


class ServiceState(Table):
    """What the service notes about itself (``catalog.notes``)."""

    __tablename__ = "service_state"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Deletions(Table):
    """What was deleted, but may still be in the source of on-demand imports.

    The ``reference`` is a tag, a digest of a manifest, an id of a V1 image, or empty: the whole repository.
    """

    __tablename__ = "forgotten"

    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    reference: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class RetentionRules(Table):
    """Retention rules: which tags stay of those that match a pattern; durations in seconds.

    NULL, or an empty text, means that a rule does not have the clause.
    """

    __tablename__ = "retention_rules"

    repositories: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    tags: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    newest: Mapped[int | None] = mapped_column(BigInteger)
    younger_than: Mapped[int | None] = mapped_column(BigInteger)
    pulled_within: Mapped[int | None] = mapped_column(BigInteger)
    matching: Mapped[str] = mapped_column(Text)


class Switches(Table):
    """What operators have switched by commands, within what the settings allow (``catalog.switches``)."""

    __tablename__ = "switches"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Tasks(Table):
    """The last run of each task, on any instance. ``ended_at`` is NULL until it has ended.

    ``result`` is what it has done, or in one line why it ``failed``.
    """

    __tablename__ = "tasks"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    instance: Mapped[str] = mapped_column(String(255))
    process: Mapped[str] = mapped_column(String(100))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failed: Mapped[bool]
    result: Mapped[str] = mapped_column(Text)


class DailyFigures(Table):
    """What was pulled and pushed on a day in UTC, such as ``2026-01-31``, and what was stored then.

    What was stored, as of the last time that it was noted on the day, is NULL until it is. The bytes are
    those of blobs, by kind (``catalog.figures``).
    """

    __tablename__ = "daily_figures"

    day: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    pulls: Mapped[int] = mapped_column(BigInteger)
    pushes: Mapped[int] = mapped_column(BigInteger)
    noted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    repositories: Mapped[int | None] = mapped_column(BigInteger)
    tags: Mapped[int | None] = mapped_column(BigInteger)
    blobs: Mapped[int | None] = mapped_column(BigInteger)
    content_bytes: Mapped[int | None] = mapped_column(BigInteger)
    manifest_bytes: Mapped[int | None] = mapped_column(BigInteger)
    transcoded_bytes: Mapped[int | None] = mapped_column(BigInteger)
    deleted_bytes: Mapped[int | None] = mapped_column(BigInteger)
    condemned_bytes: Mapped[int | None] = mapped_column(BigInteger)


class UpstreamCounters(Table):
    """What was counted of each upstream, by its URL, in requests and bytes."""

    __tablename__ = "upstream_counters"

    upstream: Mapped[str] = mapped_column(String(255), primary_key=True)
    hits: Mapped[int] = mapped_column(BigInteger)
    misses: Mapped[int] = mapped_column(BigInteger)
    stale: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)


class V1Clients(Table):
    """Clients of the V1 API, by repository; the name is empty for requests that concern none.

    ``network`` has the addresses that a client can choose from (``networks.network_of``).
    """

    __tablename__ = "v1_clients"

    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(100), primary_key=True)
    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    network: Mapped[str] = mapped_column(String(64), server_default="", index=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    refused: Mapped[int] = mapped_column(BigInteger)
