"""Accounts: what an operator does with them, their groups, keys and permission lines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from dualreg.auth.access import ALL, EVERYBODY, REPOSITORY, Action, parse_scopes
from dualreg.auth.passwords import Passwords
from dualreg.auth.policy import parse_line
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import AccountRow, PermissionRow, SecretRow
from dualreg.errors import RequestInvalid

#: Names that can also be part of a repository's, plus what e-mail addresses need. No colon: Basic has one.
_NAME = re.compile(r"[a-z0-9]+(?:[._@+-]+[a-z0-9]+)*", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_NAME_LIMIT = 64


@dataclass(frozen=True)
class Accounts:
    """The rules of accounts; every method raises ValueError, with a sentence, for what makes no sense."""

    catalog: Catalog
    passwords: Passwords

    def add(self, name: str, password: str | None) -> None:
        """Make an account; without a password, a robot, which has keys only."""
        if _NAME.fullmatch(name) is None or len(name) > _NAME_LIMIT or name in EVERYBODY:
            raise ValueError(f"{name!r} cannot be an account: small letters, digits and ._@+- between them")
        hash_ = None if password is None else self.passwords.hash(password)
        with self.catalog.begin() as tx:
            if not tx.accounts.add(name, hash_):
                raise ValueError(f"there is an account {name} already")

    def set_password(self, name: str, password: str) -> None:
        """Change the password; what was got by the old one, refresh tokens, ends."""
        hash_ = self.passwords.hash(password)
        with self.catalog.begin() as tx:
            row = tx.accounts.find(name)
            if row is None:
                raise _unknown(name)
            if row.robot:
                raise ValueError(f"{name} is a robot: it has keys, see `dualreg key add {name}`")
            tx.accounts.set_password(name, hash_)
            tx.secrets.remove_all(name, SecretKind.REFRESH)

    def remove(self, name: str) -> int:
        """Forget the account, its keys, memberships and permission lines; return how many lines went."""
        with self.catalog.begin() as tx:
            if not tx.accounts.remove(name):
                raise _unknown(name)
            tx.secrets.remove_all(name)
            return tx.permissions.remove_all(name)

    def require(self, name: str) -> None:
        """Raise ValueError if there is no such account."""
        with self.catalog.read() as tx:
            if tx.accounts.find(name) is None:
                raise _unknown(name)

    def list(self) -> Sequence[AccountRow]:
        """Return every account, by name."""
        with self.catalog.read() as tx:
            return tx.accounts.list()

    def join(self, group: str, name: str) -> None:
        """Put an account into a group; it need not be one of ours (an htpasswd file has its own)."""
        if _GROUP.fullmatch(group) is None:
            raise ValueError(f"{group!r} cannot be a group: letters, digits and ._-")
        with self.catalog.begin() as tx:
            tx.accounts.join(group, name)

    def leave(self, group: str, name: str) -> None:
        """Take an account out of a group."""
        with self.catalog.begin() as tx:
            if not tx.accounts.leave(group, name):
                raise ValueError(f"{name} is not in {group}")

    def memberships(self) -> Sequence[tuple[str, str]]:
        """Return every group and account in it, in order."""
        with self.catalog.read() as tx:
            return tx.accounts.memberships()

    def add_key(self, name: str, *, limits: str, note: str, lifetime: timedelta | None) -> Secret:
        """Return a new API key, which nobody can be told again.

        Args:
            limits: Scopes beyond which it is no good; empty: what the account may.
        """
        if limits:
            _check_limits(limits)
        secret, now = Secret.make(SecretKind.KEY), self.catalog.now()
        row = SecretRow(
            id=secret.id,
            kind=SecretKind.KEY,
            account=name,
            hash=secret.hash,
            limits=limits,
            note=note,
            service="",
            binding="",
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
        )
        with self.catalog.begin() as tx:
            tx.secrets.add(row)
        return secret

    def secrets(self, kind: SecretKind) -> Sequence[SecretRow]:
        """Return what is kept of all keys, or of all refresh tokens, the oldest first."""
        with self.catalog.read() as tx:
            return tx.secrets.list(kind)

    def revoke(self, kind: SecretKind, id_: str) -> SecretRow:
        """Forget a key or refresh token; return what was kept of it."""
        with self.catalog.begin() as tx:
            row = tx.secrets.find(id_)
            if row is None or row.kind != kind:
                raise ValueError(f"there is no {kind} {id_}")
            tx.secrets.remove(id_)
        return row

    def grant(self, who: str, pattern: str, actions: str) -> PermissionRow:
        """Add actions to a line, or make it; return it as it is now."""
        line = parse_line(who, pattern, actions)
        with self.catalog.begin() as tx:
            return tx.permissions.put(line)

    def ungrant(self, who: str, pattern: str, actions: str | None) -> PermissionRow | None:
        """Take actions, or all, from a line; return what is left of it, None if nothing."""
        taken = parse_line(who, pattern, actions).actions if actions else None
        with self.catalog.begin() as tx:
            left = tx.permissions.take(who, pattern, taken)
        if left is None:
            raise ValueError(f"there is no line {who} {pattern}")
        return left if left.actions else None

    def lines(self) -> Sequence[PermissionRow]:
        """Return every permission line, by who and pattern."""
        with self.catalog.read() as tx:
            return tx.permissions.list()


def _check_limits(limits: str) -> None:
    """Refuse scopes that would limit a key to nothing."""
    try:
        scopes = parse_scopes([limits])
    except RequestInvalid as error:
        raise ValueError(f"{limits!r} is no scope: repository:NAME:ACTIONS") from error
    if not scopes:
        raise ValueError("an empty scope would let the key do nothing")
    for scope in scopes:
        if scope.type != REPOSITORY or "{" in scope.name:
            raise ValueError(f"{scope} is no scope of a key: repository:PATTERN:ACTIONS")
        parse_line("limits", scope.name, ",".join(sorted(scope.actions - {ALL})) or Action.ADMIN)


def _unknown(name: str) -> ValueError:
    return ValueError(f"there is no account {name}")
