"""Sessions: browsers that people have logged in with, by the password of an account or by an issuer.

A browser keeps a secret, of which the hash is stored. A session ends when it is old, when somebody logs out,
and when the password changes, the account is disabled or removed, or has to log in by its issuer again.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta

from dualreg.auth.access import Identity
from dualreg.auth.logins import Logins
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.catalog.rows import SecretRow
from dualreg.errors import Unauthenticated

#: How long a session lasts that began with a password.
LIFETIME = timedelta(hours=12)
#: Sessions of one account; a further one replaces the oldest.
_LIMIT = 20


@dataclass(frozen=True)
class Sessions:
    """Begins, finds and ends the sessions of browsers."""

    logins: Logins

    def log_in(self, account: str, password: str, address: str) -> str:
        """Return a new session for who knows the password of an account.

        Raises:
            Unauthenticated: the account or the password is wrong, it is an API key, or the account is
                disabled.
            TooManyAttempts, ServerBusy: as ``Logins.by_password``.
        """
        if Secret.parse(password):
            raise Unauthenticated(reason="API keys are for clients; log in with the password of the account")
        return self.begin(self.logins.by_password(account, password, address).account, LIFETIME)

    def begin(self, account: str, lifetime: timedelta) -> str:
        """Return a new session of an account, which somebody has proved to be theirs.

        Sessions that have ended are deleted.
        """
        secret, now = Secret.generate(SecretKind.SESSION), self.logins.catalog.now()
        entry = self.logins.directory.find(account)
        row = SecretRow(
            id=secret.id,
            kind=SecretKind.SESSION,
            account=account,
            hash=secret.hash,
            limits="",
            note="",
            service="",
            binding=_fingerprint(entry.password_hash if entry else None),
            created_at=now,
            expires_at=now + lifetime,
        )
        with self.logins.catalog.begin() as tx:
            tx.secrets.remove_expired(SecretKind.SESSION, now)
            tx.secrets.add(row)
            tx.secrets.keep(account, SecretKind.SESSION, _LIMIT)
        return secret.text

    def find(self, text: str) -> Identity | None:
        """Return the identity of a session; None if it is none, has ended, or its account may not log in."""
        row, now = self._find_row(text), self.logins.catalog.now()
        if row is None or row.expires_at is None or row.expires_at <= now:
            return None
        entry = self.logins.directory.find(row.account)
        if entry is None or entry.disabled or entry.ended:
            return None
        # Older versions bound sessions to nothing.
        if row.binding not in ("", _fingerprint(entry.password_hash)):
            return None
        identity = self.logins.with_current_groups(Identity(row.account))
        return replace(identity, password=entry.password_hash is not None)

    def end(self, text: str) -> None:
        """End a session, if it is one."""
        if row := self._find_row(text):
            with self.logins.catalog.begin() as tx:
                tx.secrets.remove(row.id)

    def _find_row(self, text: str) -> SecretRow | None:
        secret = Secret.parse(text)
        if secret is None or secret.kind is not SecretKind.SESSION:
            return None
        with self.logins.catalog.read() as tx:
            row = tx.secrets.find(secret.id)
        return row if row and row.kind == secret.kind and secret.matches(row.hash) else None


def session_id(text: str) -> str:
    """Return the public id of a session; empty if the text has not the form of one."""
    secret = Secret.parse(text)
    return secret.id if secret else ""


def _fingerprint(password_hash: str | None) -> str:
    """Return what changes with a password, and does not reveal it."""
    return hashlib.sha256((password_hash or "").encode()).hexdigest()
