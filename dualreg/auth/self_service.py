"""Self-service: what people change of their own account, its password, API keys and logins.

Who has a password may do all of that. Who has an API key sees, makes and revokes only keys that allow no more
than it does; those that it makes end with it. So a key that was stolen gives nothing that lasts longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dualreg.auth.access import REPOSITORY, Access, Identity, parse_scopes
from dualreg.auth.accounts import Accounts
from dualreg.auth.logins import Logins
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.catalog.rows import SecretRow
from dualreg.errors import KeyUnknown, LoginUnknown, NotAllowed, RequestInvalid, Unauthenticated
from dualreg.patterns import within

#: Keys of one account that it makes itself.
KEYS_LIMIT = 100
#: Characters of a note.
_NOTE_LIMIT = 200


@dataclass(frozen=True)
class SelfService:
    """What an identity, which was authenticated, may change of its own account."""

    accounts: Accounts
    logins: Logins

    def change_password(self, identity: Identity, old: str, new: str, address: str) -> None:
        """Change the password; what was logged in with the old one has to log in again.

        Raises:
            NotAllowed: the old password is wrong, or the identity was proved by something else.
            RequestInvalid: the new one is invalid, or the account has none.
            TooManyAttempts, ServerBusy: as ``Logins.by_password``, by which a wrong password is counted.
        """
        if not identity.password:
            raise NotAllowed(reason="only the password of an account, and no API key, can change it")
        try:
            proved = self.logins.by_password(identity.account, old, address)
        except Unauthenticated as error:
            raise NotAllowed(reason="the old password is wrong") from error
        if not proved.password:
            raise NotAllowed(reason="the old password is an API key")
        try:
            self.accounts.set_password(identity.account, new)
        except (ValueError, UnicodeEncodeError) as error:
            raise RequestInvalid(reason=str(error)) from error

    def keys(self, identity: Identity) -> Sequence[SecretRow]:
        """Return the keys of the account that allow no more than the identity, the oldest first."""
        rows = self.accounts.keys_of(identity.account)
        return [row for row in rows if _is_covered(row.limits, identity.limits)]

    def add_key(
        self, identity: Identity, *, limits: str, note: str, lifetime: timedelta | None
    ) -> tuple[Secret, datetime | None]:
        """Return a new key of the account, whose text is not stored, and when it expires.

        Args:
            limits: Scopes that it is limited to; empty: all that the account may do.
            lifetime: None: it does not expire before the key that it is made with.

        Raises:
            NotAllowed: it would allow more than the identity, or the account has too many keys.
            RequestInvalid: the scopes or the note are invalid.
        """
        if not note.isprintable() or len(note) > _NOTE_LIMIT:
            raise RequestInvalid(reason=f"a note has at most {_NOTE_LIMIT} printable characters")
        until = identity.until if identity.key else None
        now = self.accounts.catalog.now()
        ends = [at for at in (now + lifetime if lifetime else None, _instant(until)) if at]
        try:
            if not _is_covered(limits, identity.limits):
                raise _limited(identity)
            secret = self.accounts.add_key(
                identity.account,
                limits=limits,
                note=note,
                until=min(ends, default=None),
                parent=identity.key,
                count_limit=KEYS_LIMIT,
            )
        except ValueError as error:
            raise RequestInvalid(reason=str(error)) from error
        return secret, min(ends, default=None)

    def lasting_logins(self, identity: Identity) -> Sequence[SecretRow]:
        """Return the refresh tokens and sessions of browsers of the account, the oldest first.

        None, if the identity is that of a limited key: they allow all that the account may do.
        """
        if identity.limits is not None:
            return []
        return [row for row in self.accounts.logins_of(identity.account) if row.kind != SecretKind.KEY]

    def revoke_login(self, identity: Identity, id_: str) -> SecretRow:
        """Revoke a refresh token, or end a session of a browser, and return it.

        Raises:
            LoginUnknown: the account has no such login, or the identity is that of a limited key.
        """
        row = next((row for row in self.lasting_logins(identity) if row.id == id_), None)
        if row is None:
            raise LoginUnknown(id=id_[:64])
        try:
            return self.accounts.revoke(SecretKind(row.kind), id_)
        except ValueError as error:  # another request was faster
            raise LoginUnknown(id=id_[:64]) from error

    def revoke_logins(self, identity: Identity, *, keep: str = "") -> None:
        """Revoke all refresh tokens of the account, and end its sessions, but that with the id *keep*.

        Its tokens and V1 sessions end within a minute.

        Raises:
            NotAllowed: the identity is that of a limited key.
        """
        if identity.limits is not None:
            raise _limited(identity)
        self.accounts.log_out(identity.account, keys=False, keep=keep)

    def revoke_key(self, identity: Identity, id_: str) -> SecretRow:
        """Revoke a key of the account, and return it.

        Raises:
            KeyUnknown: the account has no such key, or it allows more than the identity.
        """
        if all(row.id != id_ for row in self.keys(identity)):
            raise KeyUnknown(id=id_[:64])
        try:
            return self.accounts.revoke(SecretKind.KEY, id_)
        except ValueError as error:  # another request was faster
            raise KeyUnknown(id=id_[:64]) from error


def _is_covered(limits: str, by: Sequence[Access] | None) -> bool:
    """Return whether a key with *limits* allows no more than one with those of *by*; None: it has none."""
    if by is None:
        return True
    return bool(limits) and all(any(_covers(own, each) for own in by) for each in parse_scopes([limits]))


def _covers(own: Access, other: Access) -> bool:
    actions = all(own.permits(action) for action in other.actions)
    return own.type == other.type == REPOSITORY and actions and within(other.name, own.name)


def _limited(identity: Identity) -> NotAllowed:
    """Return the error of what a limited key does not allow."""
    limits = " ".join(map(str, identity.limits or ()))
    return NotAllowed(reason=f"the key that you use is limited to {limits}")


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
