"""Sessions: browsers that people have logged in with, by the password of an account or by an issuer.

A browser keeps a secret, of which the hash is stored. A session ends when it is old, when somebody logs out,
and when the password changes, the account is disabled or removed, or has to log in by its issuer again.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from dualreg.auth.access import Identity
from dualreg.auth.logins import Logins, fingerprint
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
            binding=fingerprint(entry),
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
        try:
            found = self.logins.find_valid(Secret.parse(text), SecretKind.SESSION)
        except Unauthenticated:
            return None
        if found is None or found[0].expires_at is None:
            return None
        row, entry = found
        # Older versions bound sessions to nothing.
        if row.binding not in ("", fingerprint(entry)):
            return None
        identity = self.logins.with_current_groups(Identity(row.account))
        return replace(identity, password=entry.password_hash is not None)

    def end(self, text: str) -> None:
        """End a session, if it is one."""
        secret = Secret.parse(text)
        if secret is None or secret.kind is not SecretKind.SESSION:
            return
        with self.logins.catalog.read() as tx:
            row = tx.secrets.find(secret.id)
        if row and row.kind == secret.kind and secret.matches(row.hash):
            with self.logins.catalog.begin() as tx:
                tx.secrets.remove(row.id)


def session_id(text: str) -> str:
    """Return the public id of a session; empty if the text has not the form of one."""
    secret = Secret.parse(text)
    return secret.id if secret else ""
