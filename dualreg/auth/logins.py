"""Logins: credentials become an identity, or nobody learns why they did not."""

import hashlib
from dataclasses import dataclass, replace

from dualreg.auth.access import Identity, parse_scopes
from dualreg.auth.attempts import Attempts
from dualreg.auth.directories import Directory
from dualreg.auth.passwords import Passwords
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import SecretRow
from dualreg.errors import Unauthenticated

#: Logins of one account that last; the oldest ends when there is another.
_REFRESH_LIMIT = 50


@dataclass(frozen=True)
class Logins:
    """The rules of passwords, API keys and refresh tokens."""

    catalog: Catalog
    directory: Directory
    passwords: Passwords
    attempts: Attempts

    def by_password(self, account: str, password: str, address: str) -> Identity:
        """Return who this is, by a password or an API key of the account.

        Raises:
            Unauthenticated: one of them is wrong, whichever.
            TooManyAttempts: and that too often.
        """
        hash_ = self.directory.password_hash(account)
        if hash_ and self.passwords.remembers(password, hash_):
            return replace(self._identity(account), password=True)
        secret = Secret.parse(password)
        key = self._held(secret, SecretKind.KEY) if secret else None
        if key is not None and key.account == account:
            # Nobody guesses 256 bits, so others who fail need not keep a key out.
            limits = parse_scopes([key.limits]) if key.limits else None
            until = key.expires_at.timestamp() if key.expires_at else None
            return replace(self._identity(account), limits=limits, until=until)
        failed = self.attempts.check(account, address)
        if not self.passwords.agree(password, hash_, self.directory.decoy()):
            self.attempts.failed(account, address)
            raise Unauthenticated(reason="invalid account or password")
        if failed:
            self.attempts.succeeded(account, address)
        return replace(self._identity(account), password=True)

    def refreshed(self, identity: Identity) -> Identity:
        """Return *identity* in the groups that it is in now; those of workloads are in their tokens."""
        if identity.groups or not identity.account:
            return identity
        return replace(identity, groups=self._identity(identity.account).groups)

    def make_refresh(self, account: str, service: str) -> str:
        """Return a token that logs in again as *account*, with *service* only, until it is revoked.

        It ends with the password that it was got by.
        """
        secret = Secret.make(SecretKind.REFRESH)
        row = SecretRow(
            id=secret.id,
            kind=SecretKind.REFRESH,
            account=account,
            hash=secret.hash,
            limits="",
            note="",
            service=service,
            binding=self._fingerprint(account),
            created_at=self.catalog.now(),
            expires_at=None,
        )
        with self.catalog.begin() as tx:
            tx.secrets.add(row)
            tx.secrets.keep(account, SecretKind.REFRESH, _REFRESH_LIMIT)
        return secret.text

    def by_refresh(self, text: str, service: str, address: str) -> Identity:
        """Return who a refresh token logs in.

        Raises:
            Unauthenticated: it is none, was revoked, is for another service, or the password was changed.
            TooManyAttempts.
        """
        secret = Secret.parse(text)
        account = secret.id if secret else ""
        self.attempts.check(account, address)
        row = self._held(secret, SecretKind.REFRESH) if secret else None
        if row and row.service == service and row.binding == self._fingerprint(row.account):
            return self._identity(row.account)
        self.attempts.failed(account, address)
        raise Unauthenticated(reason="invalid refresh token")

    def _held(self, secret: Secret, kind: SecretKind) -> SecretRow | None:
        """Return what is kept of the secret, if it is good, and its account still there."""
        with self.catalog.read() as tx:
            row = tx.secrets.find(secret.id)
        if row is None or row.kind != kind or not secret.agrees(row.hash):
            return None
        if row.expires_at is not None and row.expires_at <= self.catalog.now():
            return None
        return row if self.directory.knows(row.account) else None

    def _identity(self, account: str) -> Identity:
        with self.catalog.read() as tx:
            return Identity(account, tx.accounts.groups(account))

    def _fingerprint(self, account: str) -> str:
        """Return what changes with the account's password, and says nothing of it."""
        return hashlib.sha256((self.directory.password_hash(account) or "").encode()).hexdigest()
