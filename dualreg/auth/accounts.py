"""Accounts, and their groups, keys, refresh tokens and permission rules, as operators manage them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dualreg.auth.access import ALL, EVERYBODY, MANAGE, REPOSITORY, Action, parse_scopes
from dualreg.auth.attempts import Limits, Locked, locked, unlock, unlock_address
from dualreg.auth.passwords import Passwords
from dualreg.auth.permissions import parse_rule
from dualreg.auth.secrets import Secret, SecretKind
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import AccountRow, PermissionRow, SecretRow
from dualreg.errors import RequestInvalid

#: Components of repository names, and e-mail addresses. No colon, which ends the name in Basic.
_NAME = re.compile(r"[a-z0-9]+(?:[._@+-]+[a-z0-9]+)*", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_NAME_LIMIT = 64
#: Characters of a name of another backend, such as an htpasswd file.
_FOREIGN_LIMIT = 255


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account, and whether it may log in.

    Attributes:
        disabled_at: Since when it is disabled; None: it is not.
        locked: Whether too many logins have failed for it: it may only log in where it has lately.
        locked_networks: From how many networks too many have failed: it may not log in from there.
        issuer: By which the person logs in; None: it is an account of ours.
        login_ends_at: Until when its keys are valid unless the login is renewed.
    """

    name: str
    robot: bool
    created_at: datetime
    disabled_at: datetime | None
    locked: bool
    locked_networks: int
    issuer: str | None = None
    login_ends_at: datetime | None = None


@dataclass(frozen=True)
class Accounts:
    """Manages accounts. Every method raises ValueError, with a message, for what is invalid or unknown."""

    catalog: Catalog
    passwords: Passwords

    def add(self, name: str, password: str | None) -> None:
        """Create an account; without a password, a robot, which can only have keys."""
        if not is_account_name(name):
            raise ValueError(
                f"invalid account name {name[:80]!r};"
                f" use up to {_NAME_LIMIT} of a-z, 0-9, and ._@+- between them"
            )
        hash_ = None if password is None else self.passwords.hash(password)
        with self.catalog.begin() as tx:
            if not tx.accounts.add(name, hash_):
                raise ValueError(f"account {name} already exists")

    def set_password(self, name: str, password: str) -> None:
        """Change the password; end the refresh tokens and the sessions that began with the old one."""
        hash_ = self.passwords.hash(password)
        with self.catalog.begin() as tx:
            row = tx.accounts.find(name)
            if row is None:
                raise _unknown(name)
            if row.robot:
                raise ValueError(f"{name} is a robot, without a password; use `dualreg key add {name}`")
            if row.login_ends_at:
                raise ValueError(f"{name} logs in by an issuer, without a password of this registry")
            tx.accounts.set_password(name, hash_)
            for kind in (SecretKind.REFRESH, SecretKind.SESSION):
                tx.secrets.remove_all(name, kind)

    def disable(self, name: str) -> bool:
        """Let the account log in no more, nor use its keys and tokens; return whether it was enabled.

        Its browsers are logged out. Of the rest, nothing is lost: ``enable`` makes all of that valid again
        which has not expired.
        """
        return self._switch(name, enabled=False)

    def enable(self, name: str) -> bool:
        """Let a disabled account log in again; return whether it was disabled."""
        return self._switch(name, enabled=True)

    def _switch(self, name: str, *, enabled: bool) -> bool:
        """Enable or disable an account; return whether that changes anything."""
        with self.catalog.begin() as tx:
            row = tx.accounts.find(name)
            if row is None:
                raise _unknown(name)
            (tx.accounts.enable if enabled else tx.accounts.disable)(name)
            tx.secrets.remove_all(name, SecretKind.SESSION)
        return (row.disabled_at is None) != enabled

    def unlock(self, name: str) -> int:
        """Let the account log in again at once; return how many failed logins are forgotten."""
        return unlock(self.catalog, name)

    def unlock_address(self, address: str) -> int:
        """Let all accounts log in from the address again at once; return how many failures are forgotten.

        What failed for one account from there counts for that account: see ``unlock``.

        Raises:
            ValueError: it is no IP address.
        """
        return unlock_address(self.catalog, address)

    def remove(self, name: str) -> int:
        """Remove the account, its keys, memberships and rules; return the number of rules removed."""
        with self.catalog.begin() as tx:
            if not tx.accounts.remove(name):
                raise _unknown(name)
            tx.secrets.remove_all(name)
            return tx.permissions.remove_all(name)

    def require(self, name: str) -> None:
        """Raise ValueError unless the account exists."""
        with self.catalog.read() as tx:
            if tx.accounts.find(name) is None:
                raise _unknown(name)

    def is_here(self, name: str) -> bool:
        """Return whether the account is in the catalog, and not elsewhere."""
        with self.catalog.read() as tx:
            return tx.accounts.find(name) is not None

    def is_robot(self, name: str) -> bool:
        """Return whether there is a robot with this name."""
        with self.catalog.read() as tx:
            row = tx.accounts.find(name)
        return row is not None and row.robot

    def list(self) -> Sequence[AccountRow]:
        """Return all accounts, by name."""
        with self.catalog.read() as tx:
            return tx.accounts.list()

    def states(self, limits: Limits) -> Sequence[AccountState]:
        """Return all accounts with whether they may log in, by name.

        Args:
            limits: Those of failed logins.
        """
        rows = self.list()
        found = locked(self.catalog, limits, (row.name for row in rows))
        with self.catalog.read() as tx:
            subjects = tx.accounts.subjects()
        return [
            AccountState(
                row.name,
                row.robot,
                row.created_at,
                row.disabled_at,
                *found.get(row.name, Locked()),
                subjects[row.name][0] if row.name in subjects else None,
                row.login_ends_at,
            )
            for row in rows
        ]

    def join(self, group: str, name: str) -> None:
        """Add an account to a group; the account may be in another backend, such as an htpasswd file."""
        if _GROUP.fullmatch(group) is None:
            raise ValueError(f"invalid group name {group[:80]!r}; use up to 64 letters, digits and ._-")
        if not 0 < len(name) <= _FOREIGN_LIMIT or not name.isprintable():
            raise ValueError(
                f"invalid account name {name[:80]!r}; use 1 to {_FOREIGN_LIMIT} printable characters"
            )
        with self.catalog.begin() as tx:
            tx.accounts.join(group, name)

    def leave(self, group: str, name: str) -> None:
        """Remove an account from a group."""
        with self.catalog.begin() as tx:
            if not tx.accounts.leave(group, name):
                raise ValueError(f"{name} is not in group {group}")

    def memberships(self) -> Sequence[tuple[str, str]]:
        """Return all pairs of a group and an account in it, in order."""
        with self.catalog.read() as tx:
            return tx.accounts.memberships()

    def add_key(
        self,
        name: str,
        *,
        limits: str,
        note: str,
        lifetime: timedelta | None = None,
        until: datetime | None = None,
        parent: str = "",
        count_limit: int | None = None,
    ) -> Secret:
        """Return a new API key, whose text is not stored.

        Args:
            limits: Scopes that it is limited to; empty: all that the account may do.
            lifetime, until: When it expires; neither: never.
            parent: The id of a key that it ends with; empty: none.
            count_limit: How many keys the account may have; None: any number.
        """
        if limits:
            _check_limits(limits)
        secret, now = Secret.generate(SecretKind.KEY), self.catalog.now()
        ends = until if lifetime is None else now + lifetime
        row = SecretRow(secret.id, SecretKind.KEY, name, secret.hash, limits, note, "", parent, now, ends)
        with self.catalog.begin() as tx:
            if parent and not tx.secrets.lock(parent):
                raise ValueError("the key that you use was revoked")
            if count_limit is not None and len(tx.secrets.of(name, SecretKind.KEY)) >= count_limit:
                raise ValueError(f"an account makes at most {count_limit} keys; revoke some")
            tx.secrets.add(row)
        return secret

    def keys_of(self, name: str) -> Sequence[SecretRow]:
        """Return the API keys of an account, without their texts, the oldest first."""
        with self.catalog.read() as tx:
            return tx.secrets.of(name, SecretKind.KEY)

    def logins_of(self, name: str) -> Sequence[SecretRow]:
        """Return what an account can log in with beside its password, without the texts, the oldest first.

        That is its API keys, refresh tokens, and sessions of browsers which have not expired.
        """
        with self.catalog.read() as tx:
            rows, now = tx.secrets.of(name, *SecretKind), tx.now
        return [row for row in rows if row.expires_at is None or row.expires_at > now]

    def log_out(self, name: str, *, keys: bool, keep: str = "") -> bool:
        """End all refresh tokens and sessions of an account, and its tokens within a minute.

        Args:
            keys: Its API keys, too.
            keep: The id of a session that goes on; empty: none does.

        Returns:
            Whether its tokens end: those of an account that is elsewhere stay until they expire.
        """
        with self.catalog.begin() as tx:
            for kind in (SecretKind.REFRESH, SecretKind.SESSION, *([SecretKind.KEY] if keys else ())):
                tx.secrets.remove_all(name, kind, but=keep)
            return tx.accounts.end_tokens(name)

    def secrets(self, kind: SecretKind) -> Sequence[SecretRow]:
        """Return all keys or refresh tokens, without their texts, the oldest first."""
        with self.catalog.read() as tx:
            return tx.secrets.list(kind)

    def revoke(self, kind: SecretKind, id_: str) -> SecretRow:
        """Revoke a key or refresh token, and the keys that were made with it; return it."""
        with self.catalog.begin() as tx:
            row = tx.secrets.find(id_)
            if row is None or row.kind != kind:
                raise ValueError(f"no {kind} {id_}")
            tx.secrets.remove(id_)
            tx.secrets.remove_bound(SecretKind.KEY, id_)
        return row

    def grant(self, who: str, pattern: str, actions: str) -> PermissionRow:
        """Add actions to a rule, or create it; return the whole rule."""
        rule = parse_rule(who, pattern, actions)
        with self.catalog.begin() as tx:
            return tx.permissions.grant(rule)

    def ungrant(self, who: str, pattern: str, actions: str | None) -> PermissionRow | None:
        """Remove actions, or all, from a rule; return the rest of it, None if it is gone."""
        revoked = parse_rule(who, pattern, actions).actions if actions else None
        with self.catalog.begin() as tx:
            remaining = tx.permissions.revoke(who, pattern, revoked)
        if remaining is None:
            raise ValueError(f"no rule {who} {pattern}")
        return remaining if remaining.actions else None

    def rules(self) -> Sequence[PermissionRow]:
        """Return all permission rules, by who and pattern."""
        with self.catalog.read() as tx:
            return tx.permissions.list()


def is_account_name(name: str) -> bool:
    """Return whether an account can have this name."""
    return _NAME.fullmatch(name) is not None and len(name) <= _NAME_LIMIT and name not in EVERYBODY


def _check_limits(limits: str) -> None:
    """Raise ValueError for scopes that would limit a key to nothing."""
    try:
        scopes = parse_scopes([limits])
    except RequestInvalid as error:
        raise ValueError(f"invalid scope {limits!r}; expected repository:PATTERN:ACTIONS") from error
    if len(scopes) != len(limits.split()) or not scopes:
        raise ValueError("invalid scopes: none, or more than a token has room for")
    for scope in scopes:
        if scope.type != REPOSITORY or "{" in scope.name:
            raise ValueError(f"invalid scope {str(scope)!r} of a key; expected repository:PATTERN:ACTIONS")
        rule = parse_rule("limits", scope.name, ",".join(sorted(scope.actions - {ALL})) or Action.ADMIN)
        if MANAGE in rule.actions:
            raise ValueError("manage cannot be an action of a key's scope; a key without a scope has it")


def _unknown(name: str) -> ValueError:
    return ValueError(f"no account {name}")
