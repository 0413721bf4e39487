"""SQL of accounts and groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, or_, select, union, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import AccountRow
from dualreg.catalog.tables import Accounts, AccountSubjects, ClaimedGroups, GroupMembers


@dataclass(frozen=True, slots=True)
class AccountQueries:
    """Accounts, the groups that they are members of, and their subjects at issuers."""

    connection: Connection
    now: datetime

    def add(self, name: str, password_hash: str | None) -> bool:
        """Add an account, a robot if *password_hash* is None; return False if the name is taken."""
        row = insert(self.connection, Accounts).values(
            name=name, password_hash=password_hash, robot=password_hash is None, created_at=self.now
        )
        added = row.on_conflict_do_nothing().returning(Accounts.name)
        return self.connection.execute(added).first() is not None

    def find(self, name: str) -> AccountRow | None:
        """Return the account, or None if there is none."""
        if "\0" in name:  # PostgreSQL refuses NUL; no name contains it
            return None
        row = self.connection.execute(select(*_COLUMNS).where(Accounts.name == name)).one_or_none()
        return None if row is None else AccountRow(*row)

    def set_password(self, name: str, password_hash: str) -> None:
        """Replace the hash of the password, and note that it has changed now."""
        changed = update(Accounts).where(Accounts.name == name)
        self.connection.execute(changed.values(password_hash=password_hash, password_changed_at=self.now))

    def end_tokens(self, name: str) -> bool:
        """Let no token count that was issued before now, as if the password had changed.

        Return whether the account is here.
        """
        ended = update(Accounts).where(Accounts.name == name).values(password_changed_at=self.now)
        return self.connection.execute(ended).rowcount > 0

    def disable(self, name: str) -> None:
        """Note that the account is disabled from now on; one that is stays disabled since then."""
        enabled = (Accounts.name == name) & Accounts.disabled_at.is_(None)
        self.connection.execute(update(Accounts).where(enabled).values(disabled_at=self.now))

    def enable(self, name: str) -> None:
        """Note that the account is not disabled."""
        self.connection.execute(update(Accounts).where(Accounts.name == name).values(disabled_at=None))

    def endings(self) -> Sequence[tuple[str, datetime | None]]:
        """Return all accounts with when they were created, or their password last changed.

        None: it is disabled, or its issuer has vouched for it too long ago.
        """
        since = func.coalesce(Accounts.password_changed_at, Accounts.created_at)
        ended = func.coalesce(Accounts.login_ends_at <= self.now, False)
        query = select(Accounts.name, since, or_(Accounts.disabled_at.is_not(None), ended))
        return [(name, None if disabled else at) for name, at, disabled in self.connection.execute(query)]

    def remove(self, name: str) -> bool:
        """Delete the account, its memberships and its subject; return whether it existed.

        The account first: a login that renews it at this moment holds its row until it has said all.
        """
        removed = self.connection.execute(delete(Accounts).where(Accounts.name == name)).rowcount > 0
        for table in (GroupMembers, ClaimedGroups, AccountSubjects):
            self.connection.execute(delete(table).where(table.account == name))
        return removed

    def list(self) -> Sequence[AccountRow]:
        """Return all accounts, ordered by name."""
        query = select(*_COLUMNS).order_by(Accounts.name)
        return [AccountRow(*row) for row in self.connection.execute(query)]

    def join(self, group: str, account: str) -> None:
        """Add the account to the group; nothing happens if it is a member."""
        row = insert(self.connection, GroupMembers).values(account=account, group_name=group)
        self.connection.execute(row.on_conflict_do_nothing())

    def leave(self, group: str, account: str) -> bool:
        """Remove the account from the group; return whether it was a member."""
        member = (GroupMembers.account == account) & (GroupMembers.group_name == group)
        return self.connection.execute(delete(GroupMembers).where(member)).rowcount > 0

    def groups(self, account: str) -> frozenset[str]:
        """Return the groups of the account: those that it was added to, and those that its issuer claims."""
        query = union(*(select(table.group_name).where(table.account == account) for table in _MEMBERS))
        return frozenset(self.connection.scalars(query))

    def memberships(self) -> Sequence[tuple[str, str]]:
        """Return all pairs of group and account, ordered; issuers may claim some of them."""
        query = union(*(select(table.group_name, table.account) for table in _MEMBERS)).order_by(
            "group_name", "account"
        )
        return [(group, account) for group, account in self.connection.execute(query)]

    def add_subject(self, issuer: str, subject: str, account: str) -> bool:
        """Add an account without a password for a subject of an issuer; return False if the name is taken."""
        row = insert(self.connection, Accounts).values(
            name=account, password_hash=None, robot=False, created_at=self.now, login_ends_at=self.now
        )
        added = row.on_conflict_do_nothing().returning(Accounts.name)
        if self.connection.execute(added).first() is None:
            return False
        bound = insert(self.connection, AccountSubjects)
        self.connection.execute(bound.values(issuer=issuer, subject=subject, account=account))
        return True

    def of_subject(self, issuer: str, subject: str) -> str | None:
        """Return the account of a subject of an issuer; None if it has none."""
        known = (AccountSubjects.issuer == issuer) & (AccountSubjects.subject == subject)
        return self.connection.scalar(select(AccountSubjects.account).where(known))

    def subjects(self) -> Mapping[str, tuple[str, str]]:
        """Return the issuer and the subject of each account that has one, by account."""
        query = select(AccountSubjects.account, AccountSubjects.issuer, AccountSubjects.subject)
        return {account: (issuer, subject) for account, issuer, subject in self.connection.execute(query)}

    def renew(self, account: str, ends_at: datetime, groups: Iterable[str]) -> bool:
        """Record until when an issuer has vouched for the account, and the groups that it claims.

        Return False if there is no such account of an issuer: another one of that name is not to be touched.
        """
        known = (Accounts.name == account) & Accounts.login_ends_at.is_not(None)
        renewed = update(Accounts).where(known).values(login_ends_at=ends_at)
        if not self.connection.execute(renewed).rowcount:
            return False
        self.connection.execute(delete(ClaimedGroups).where(ClaimedGroups.account == account))
        if rows := [{"account": account, "group_name": group} for group in sorted(set(groups))]:
            self.connection.execute(insert(self.connection, ClaimedGroups), rows)
        return True


_COLUMNS = (
    Accounts.name,
    Accounts.password_hash,
    Accounts.robot,
    Accounts.created_at,
    Accounts.disabled_at,
    Accounts.password_changed_at,
    Accounts.login_ends_at,
)
#: The tables of memberships.
_MEMBERS = (GroupMembers, ClaimedGroups)
