"""Accounts and groups: who can log in, and which accounts rules name together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dualreg.auth.accounts import AccountState
from dualreg.auth.attempts import Limits
from dualreg.auth.directories import CatalogDirectory
from dualreg.auth.secrets import SecretKind
from dualreg.operations.session import Group, Session


@dataclass(frozen=True, slots=True)
class AddedAccount:
    """An account that was added.

    Attributes:
        robot: Whether it has no password, and logs in with API keys.
    """

    account: str
    robot: bool


@dataclass(frozen=True, slots=True)
class SwitchedAccount:
    """An account that was disabled or enabled.

    Attributes:
        changed: Whether it was not so before.
    """

    account: str
    disabled: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class RemovedAccount:
    """An account that was removed, and how many permission rules went with it."""

    account: str
    rules: int


@dataclass(frozen=True, slots=True)
class Unlocked:
    """What was unlocked: an account or an address.

    Attributes:
        failures: How many failed logins of the last 15 minutes are forgotten.
    """

    account: str | None
    address: str | None
    failures: int


@dataclass(frozen=True, slots=True)
class Login:
    """What an account can log in with, beside its password.

    Attributes:
        kind: key, refresh (a refresh token, such as that of docker login), or session (of a browser).
        expires_at: When it ends; null: not by itself.
        used_at: When a key was last used, to about five minutes; null: never, or it is no key.
        limits: The scopes that a key is limited to; empty: it may do what the account may do.
        note: What a key is for.
        service: The service for which a refresh token was issued.
    """

    kind: SecretKind
    id: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    limits: str
    note: str
    service: str


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """What was ended of an account.

    Attributes:
        keys, refresh_tokens, sessions: How many.
        tokens: Whether its tokens end within a minute, too; those of an htpasswd file stay until they expire.
    """

    account: str
    keys: int
    refresh_tokens: int
    sessions: int
    tokens: bool


@dataclass(frozen=True, slots=True)
class Membership:
    """An account in a group."""

    group: str
    account: str


def knows(session: Session, account: str) -> bool:
    """Return whether an account exists; with ``auth = none`` too, by the accounts of the catalog."""
    logins = session.authority().logins
    directory = logins.directory if logins else CatalogDirectory(session.accounts().catalog)
    return directory.find(account) is not None


def require_known(session: Session, account: str) -> None:
    """Check that an account exists.

    Raises:
        ValueError: it does not.
    """
    if not knows(session, account):
        raise ValueError(f"there is no account {account}")


@dataclass(frozen=True)
class AccountChanges(Group):
    """Accounts."""

    def add(self, name: str, password: str | None = None) -> AddedAccount:
        """Add an account, which has no permissions yet.

        Args:
            name: Lower-case letters and digits, and ._@+- between them.
            password: Of 2 to 72 bytes; null: it is a robot, which logs in with API keys.

        Raises:
            ValueError: the name or the password is invalid, or the account exists.
        """
        self.session.accounts().add(name, password)
        self.session.record("account add", who=name)
        return AddedAccount(name, password is None)

    def list(self) -> Sequence[AccountState]:
        """List the accounts, and which of them may not log in now."""
        limits = Limits.parse(self.session.settings.login_limits)
        return self.session.accounts().states(limits)

    def disable(self, name: str) -> SwitchedAccount:
        """Refuse the password, API keys and tokens of an account. Nothing is removed.

        Raises:
            ValueError: there is no such account, or it is in the htpasswd file.
        """
        self._require_own(name)
        changed = self.session.accounts().disable(name)
        self.session.record("account disable", who=name)
        return SwitchedAccount(name, disabled=True, changed=changed)

    def enable(self, name: str) -> SwitchedAccount:
        """Accept the password, API keys and refresh tokens of an account again.

        Raises:
            ValueError: there is no such account.
        """
        changed = self.session.accounts().enable(name)
        self.session.record("account enable", who=name)
        return SwitchedAccount(name, disabled=False, changed=changed)

    def remove(self, name: str, *, dry_run: bool = False) -> RemovedAccount:
        """Remove an account with its keys, memberships and permission rules.

        Args:
            dry_run: Only return what would be removed.

        Raises:
            ValueError: there is no such account.
        """
        accounts = self.session.accounts()
        rules = [line for line in accounts.rules() if line.who == name]
        if dry_run:
            accounts.require(name)
        else:
            accounts.remove(name)
            self.session.record("account remove", who=name)
        return RemovedAccount(name, len(rules))

    def set_password(self, name: str, password: str) -> None:
        """Change the password of an account. Clients that logged in with the old one have to log in again.

        Args:
            password: The new one, of 2 to 72 bytes.

        Raises:
            ValueError: there is no such account, it is a robot, or the password is invalid.
        """
        self.session.accounts().set_password(name, password)
        self.session.record("account password", who=name)

    def logins(self, name: str) -> Sequence[Login]:
        """List what an account can log in with beside its password, the oldest first.

        That is its API keys, refresh tokens, and sessions of browsers.

        Raises:
            ValueError: there is no such account.
        """
        require_known(self.session, name)
        return [
            Login(
                SecretKind(row.kind), row.id, row.created_at, row.expires_at, row.used_at,
                row.limits, row.note, row.service,
            )
            for row in self.session.accounts().logins_of(name)
        ]  # fmt: skip

    def log_out(self, name: str, *, keys: bool = False, dry_run: bool = False) -> LoggedOut:
        """End all refresh tokens and sessions of an account now, and its tokens within a minute.

        Its password stays as it is, and so do its API keys.

        Args:
            keys: Revoke its API keys, too.
            dry_run: Only return what would be ended.

        Raises:
            ValueError: there is no such account.
        """
        kinds = [each.kind for each in self.logins(name)]
        accounts = self.session.accounts()
        tokens = accounts.is_here(name) if dry_run else accounts.log_out(name, keys=keys)
        counts = kinds.count(SecretKind.REFRESH), kinds.count(SecretKind.SESSION)
        found = LoggedOut(name, kinds.count(SecretKind.KEY) if keys else 0, *counts, tokens=tokens)
        if not dry_run:
            self.session.record(
                "account logout",
                who=name,
                keys=found.keys,
                refresh_tokens=found.refresh_tokens,
                sessions=found.sessions,
            )
        return found

    def unlock(self, name: str | None = None, address: str | None = None) -> Unlocked:
        """Forget the failed logins of an account, or those from an address.

        Args:
            name: The account.
            address: All accounts can log in from there again, except those with too many failures of theirs.

        Raises:
            ValueError: there is no such account, or not one of the two is given.
        """
        if (name is None) == (address is None):
            raise ValueError("give either name or address")
        accounts = self.session.accounts()
        if name is not None:
            require_known(self.session, name)
            failures = accounts.unlock(name)
        else:
            failures = accounts.unlock_address(address or "")
        self.session.record("account unlock", **({"who": name} if name else {"address": address}))
        return Unlocked(name, address, failures)

    def _require_own(self, name: str) -> None:
        """Check that an account is none of the htpasswd file, which alone says who may log in.

        Raises:
            ValueError: it is.
        """
        settings, accounts = self.session.settings, self.session.accounts()
        if settings.auth == "htpasswd" and knows(self.session, name) and not accounts.is_robot(name):
            raise ValueError(f"{name} is in {settings.htpasswd}; remove its line there")


@dataclass(frozen=True)
class GroupMembers(Group):
    """Groups."""

    def add(self, group: str, account: str) -> Membership:
        """Add an account to a group, which is created if necessary.

        Raises:
            ValueError: the name of the group, or that of the account, is invalid.
        """
        self.session.accounts().join(group, account)
        self.session.record("group add", group=group, who=account)
        return Membership(group, account)

    def remove(self, group: str, account: str) -> Membership:
        """Remove an account from a group.

        Raises:
            ValueError: it is not in it.
        """
        self.session.accounts().leave(group, account)
        self.session.record("group remove", group=group, who=account)
        return Membership(group, account)

    def list(self) -> Sequence[Membership]:
        """List the groups and their members."""
        return [Membership(*each) for each in self.session.accounts().memberships()]
