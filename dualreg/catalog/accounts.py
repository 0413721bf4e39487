"""SQL of accounts and the groups that they are in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import AccountRow
from dualreg.catalog.tables import Accounts, GroupMembers


@dataclass(frozen=True, slots=True)
class AccountQueries:
    """Who can log in."""

    connection: Connection
    now: datetime

    def add(self, name: str, password_hash: str | None) -> bool:
        """Record an account, without a password a robot; tell whether it was not there yet."""
        row = insert(self.connection, Accounts).values(
            name=name, password_hash=password_hash, robot=password_hash is None, created_at=self.now
        )
        added = row.on_conflict_do_nothing().returning(Accounts.name)
        return self.connection.execute(added).first() is not None

    def find(self, name: str) -> AccountRow | None:
        """Return the account."""
        if "\0" in name:  # which no name has, and databases cannot take
            return None
        row = self.connection.execute(select(*_COLUMNS).where(Accounts.name == name)).one_or_none()
        return None if row is None else AccountRow(*row)

    def set_password(self, name: str, password_hash: str) -> None:
        """Change what is kept of the password."""
        self.connection.execute(
            update(Accounts).where(Accounts.name == name).values(password_hash=password_hash)
        )

    def remove(self, name: str) -> bool:
        """Forget the account and its memberships; tell whether it was there."""
        self.connection.execute(delete(GroupMembers).where(GroupMembers.account == name))
        return self.connection.execute(delete(Accounts).where(Accounts.name == name)).rowcount > 0

    def list(self) -> Sequence[AccountRow]:
        """Return every account, by name."""
        query = select(*_COLUMNS).order_by(Accounts.name)
        return [AccountRow(*row) for row in self.connection.execute(query)]

    def join(self, group: str, account: str) -> None:
        """Put the account into the group."""
        row = insert(self.connection, GroupMembers).values(account=account, group_name=group)
        self.connection.execute(row.on_conflict_do_nothing())

    def leave(self, group: str, account: str) -> bool:
        """Take the account out of the group; tell whether it was in it."""
        here = (GroupMembers.account == account) & (GroupMembers.group_name == group)
        return self.connection.execute(delete(GroupMembers).where(here)).rowcount > 0

    def groups(self, account: str) -> frozenset[str]:
        """Return the groups that the account is in."""
        query = select(GroupMembers.group_name).where(GroupMembers.account == account)
        return frozenset(self.connection.scalars(query))

    def memberships(self) -> Sequence[tuple[str, str]]:
        """Return every group and account in it, in order."""
        query = select(GroupMembers.group_name, GroupMembers.account)
        query = query.order_by(GroupMembers.group_name, GroupMembers.account)
        return [(group, account) for group, account in self.connection.execute(query)]


_COLUMNS = (Accounts.name, Accounts.password_hash, Accounts.robot, Accounts.created_at)
