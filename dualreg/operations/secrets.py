"""API keys, refresh tokens, and the keys that sign tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dualreg.auth.secrets import SecretKind
from dualreg.operations.accounts import require_known
from dualreg.operations.session import Group
from dualreg.settings.values import format_duration

#: Characters of a note.
_NOTE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key that was created.

    Attributes:
        secret: Its text, with which the account logs in. It is not stored, and not shown again.
    """

    account: str
    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key.

    Attributes:
        limits: The scopes that it is limited to; empty: it may do what its account may do.
        used_at: When it was last used, to about five minutes; null: never.
    """

    id: str
    account: str
    limits: str
    note: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A long-lived login, such as that of docker login.

    Attributes:
        service: The service for which it was issued.
    """

    id: str
    account: str
    service: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Revoked:
    """An API key or refresh token that was revoked."""

    account: str
    id: str


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key that signs tokens from now on.

    Attributes:
        accepted: How many older keys are still accepted.
    """

    key: str
    accepted: int


@dataclass(frozen=True)
class ApiKeys(Group):
    """API keys."""

    def add(
        self, account: str, *, scope: str = "", note: str = "", expires: timedelta | None = None
    ) -> NewKey:
        """Create an API key, which stands in for the password of its account.

        Args:
            scope: Limit the key to repository:PATTERN:ACTIONS; several are separated by spaces.
            note: What it is for.
            expires: It ends after that time; null: never.

        Raises:
            ValueError: there is no such account, or the scope is invalid.
        """
        require_known(self.session, account)
        made = self.session.accounts().add_key(
            account, limits=scope, note=note[:_NOTE_LIMIT], lifetime=expires
        )
        self.session.record("key add", who=account, key=made.id)
        return NewKey(account, made.id, made.text)

    def list(self) -> Sequence[ApiKey]:
        """List the API keys, the oldest first."""
        return [
            ApiKey(row.id, row.account, row.limits, row.note, row.created_at, row.expires_at, row.used_at)
            for row in self.session.accounts().secrets(SecretKind.KEY)
        ]

    def revoke(self, id: str) -> Revoked:
        """Revoke an API key, and the keys that were created with it.

        Args:
            id: That of the key, as listed.

        Raises:
            ValueError: there is no such key.
        """
        return _revoked(self, SecretKind.KEY, id)


@dataclass(frozen=True)
class Tokens(Group):
    """Refresh tokens, and the keys that sign tokens."""

    def rotate(self, grace: timedelta = timedelta(hours=24)) -> Rotated:
        """Sign tokens with a new key from now on. Every process uses it within a minute.

        Args:
            grace: Accept the older keys for this long.
        """
        kid, accepted = self.session.authority().keyring.rotate(grace)
        self.session.record("token rotate", key=kid, grace=format_duration(grace))
        return Rotated(kid, accepted)

    def list(self) -> Sequence[RefreshToken]:
        """List the refresh tokens, the oldest first."""
        return [
            RefreshToken(row.id, row.account, row.service, row.created_at, row.expires_at)
            for row in self.session.accounts().secrets(SecretKind.REFRESH)
        ]

    def revoke(self, id: str) -> Revoked:
        """Revoke a refresh token.

        Args:
            id: That of the token, as listed.

        Raises:
            ValueError: there is no such token.
        """
        return _revoked(self, SecretKind.REFRESH, id)


def _revoked(group: Group, kind: SecretKind, id_: str) -> Revoked:
    row = group.session.accounts().revoke(kind, id_)
    group.session.record(f"{kind} revoke", who=row.account, id=id_)
    return Revoked(row.account, id_)
