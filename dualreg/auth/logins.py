"""Logins: a password, API key or refresh token becomes an identity; failures do not say what was wrong."""

import hashlib
from dataclasses import dataclass, replace

from dualreg.auth.access import Identity, parse_scopes
from dualreg.auth.attempts import Attempts
from dualreg.auth.directories import Directory, Entry
from dualreg.auth.passwords import Passwords
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import SecretRow
from dualreg.errors import Unauthenticated

#: Refresh tokens of one account; a further one replaces the oldest.
_REFRESH_LIMIT = 50


@dataclass(frozen=True)
class Logins:
    """Verifies passwords, API keys and refresh tokens."""

    catalog: Catalog
    directory: Directory
    passwords: Passwords
    attempts: Attempts

    def by_password(self, account: str, password: str, address: str) -> Identity:
        """Return the identity that a password or API key of the account proves.

        Raises:
            Unauthenticated: the account or the password is wrong, or the account is disabled.
            TooManyAttempts: too many logins have failed.
            ServerBusy: too many passwords are being verified.
        """
        if secret := Secret.parse(password):
            return self._by_key(account, secret)
        failed_before = self.attempts.check(account, address)
        entry = self.directory.find(account)
        hash_ = entry.password_hash if entry else None
        if not self.passwords.verify(password, hash_, account=account, cost=self.directory.cost()):
            self.attempts.failed(account, address, password)
            raise _invalid()
        if entry and entry.disabled:
            raise _disabled(account)
        self.attempts.succeeded(account, address, failed_before=failed_before)
        return replace(self._identity(account), password=True)

    def _by_key(self, account: str, secret: Secret) -> Identity:
        """Return the identity that an API key of the account proves.

        256 bits cannot be guessed: wrong keys are not counted, and failed logins of others lock no key out.

        Raises:
            Unauthenticated: it is not one.
        """
        found = self.find_valid(secret, SecretKind.KEY)
        if found is None or found[0].account != account:
            raise _invalid()
        key, _ = found
        limits = parse_scopes([key.limits]) if key.limits else None
        until = key.expires_at.timestamp() if key.expires_at else None
        return replace(self._identity(account), limits=limits, until=until, key=key.id)

    def with_current_groups(self, identity: Identity) -> Identity:
        """Return *identity* with the groups that it has now; those of workloads are fixed by their tokens."""
        if identity.groups or not identity.account:
            return identity
        return replace(identity, groups=self._identity(identity.account).groups)

    def make_refresh(self, account: str, service: str) -> str:
        """Return a new refresh token, which logs in as *account* to *service* until it is revoked.

        It ends when the password of the account changes.
        """
        secret, entry = Secret.generate(SecretKind.REFRESH), self.directory.find(account)
        row = SecretRow(
            id=secret.id,
            kind=SecretKind.REFRESH,
            account=account,
            hash=secret.hash,
            limits="",
            note="",
            service=service,
            binding=fingerprint(entry),
            created_at=self.catalog.now(),
            expires_at=None,
        )
        with self.catalog.begin() as tx:
            tx.secrets.add(row)
            tx.secrets.keep(account, SecretKind.REFRESH, _REFRESH_LIMIT)
        return secret.text

    def by_refresh(self, text: str, service: str) -> Identity:
        """Return the identity that a refresh token logs in.

        Raises:
            Unauthenticated: it is not one, was revoked, is for another service, or the password has changed.
                As with keys, that is not counted.
        """
        if found := self.find_valid(Secret.parse(text), SecretKind.REFRESH):
            row, entry = found
            if row.service == service and row.binding == fingerprint(entry):
                return self._identity(row.account)
        raise Unauthenticated(reason="invalid refresh token")

    def find_valid(self, secret: Secret | None, kind: SecretKind) -> tuple[SecretRow, Entry] | None:
        """Return what is stored of *secret*, and its account; None: it is wrong or expired, or that is gone.

        Raises:
            Unauthenticated: the account is disabled, or has to log in by its issuer again.
        """
        if secret is None:
            return None
        with self.catalog.read() as tx:
            row = tx.secrets.find(secret.id)
        if row is None or row.kind != kind or not secret.matches(row.hash):
            return None
        if row.expires_at is not None and row.expires_at <= self.catalog.now():
            return None
        entry = self.directory.find(row.account)
        if entry and entry.disabled:
            raise _disabled(row.account)
        if entry and entry.ended:
            raise Unauthenticated(reason=f"{row.account} has to log in in a browser again")
        return (row, entry) if entry else None

    def _identity(self, account: str) -> Identity:
        with self.catalog.read() as tx:
            return Identity(account, tx.accounts.groups(account))


def fingerprint(entry: Entry | None) -> str:
    """Return what changes with the password of an account, and does not reveal it."""
    return hashlib.sha256(((entry and entry.password_hash) or "").encode()).hexdigest()


def _disabled(account: str) -> Unauthenticated:
    return Unauthenticated(reason=f"the account {account} is disabled")


def _invalid() -> Unauthenticated:
    return Unauthenticated(reason="invalid account or password")
