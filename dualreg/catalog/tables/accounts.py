"""Tables of accounts, and of the rules by which operators allow and forbid."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dualreg.catalog.columns import NameColumn, UtcDateTime
from dualreg.catalog.tables.base import Table


class Accounts(Table):
    """Accounts. A robot has no password, and logs in with API keys only.

    Neither has somebody who logs in by an issuer, and has to do so again until ``login_ends_at``.
    """

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    password_hash: Mapped[str | None] = mapped_column(String(100))
    robot: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    password_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    login_ends_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AccountSubjects(Table):
    """Which account is that of a subject of an OpenID Connect issuer, whatever its name is there."""

    __tablename__ = "account_subjects"

    issuer: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    subject: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    account: Mapped[str] = mapped_column(NameColumn, unique=True)


class GroupMembers(Table):
    """Members of groups. Not a foreign key: the account may come from another source, such as htpasswd."""

    __tablename__ = "group_members"

    account: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    group_name: Mapped[str] = mapped_column(NameColumn, primary_key=True)


class ClaimedGroups(Table):
    """Groups of accounts as the last login by their issuer claimed them, beside those in GroupMembers."""

    __tablename__ = "claimed_groups"

    account: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    group_name: Mapped[str] = mapped_column(NameColumn, primary_key=True)


class Permissions(Table):
    """Permission rules: the actions that are allowed on the repositories that match a pattern."""

    __tablename__ = "permissions"

    who: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    pattern: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    actions: Mapped[str] = mapped_column(String(40))


class ImmutableTags(Table):
    """Rules of immutable tags: patterns of ``REPOSITORY:TAG``."""

    __tablename__ = "immutable_tags"

    pattern: Mapped[str] = mapped_column(String(400), primary_key=True)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Quotas(Table):
    """How many bytes the repositories that match a pattern may have, and when clients are warned."""

    __tablename__ = "quotas"

    pattern: Mapped[str] = mapped_column(String(255), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    soft: Mapped[int | None] = mapped_column(BigInteger)


class Secrets(Table):
    """API keys and refresh tokens, as hashes."""

    __tablename__ = "secrets"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    account: Mapped[str] = mapped_column(NameColumn, index=True)
    hash: Mapped[str] = mapped_column(String(64))
    limits: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(String(200))
    service: Mapped[str] = mapped_column(String(255))
    binding: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class KeyUses(Table):
    """When API keys were last used, by their ids. Changes of ``secrets`` itself are copied to the store."""

    __tablename__ = "key_uses"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    used_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LoginFailures(Table):
    """Counters of recently failed logins, by subject, with the subject of the account; empty: of none."""

    __tablename__ = "login_failures"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    account: Mapped[str] = mapped_column(String(64), index=True, server_default="")
    failures: Mapped[int] = mapped_column(Integer)
    since: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class LoginSuccesses(Table):
    """When an account last logged in from a network: the subject is that of both together."""

    __tablename__ = "login_successes"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
