"""SQL of switches: what operators have switched by commands, within what the settings allow."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import Switches


class SwitchRow(NamedTuple):
    """What something is switched to, and since when."""

    value: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SwitchQueries:
    """The switches, by name."""

    connection: Connection
    now: datetime

    def find(self, name: str) -> SwitchRow | None:
        """Return what a switch is set to; None: nobody has set it."""
        query = select(Switches.value, Switches.at).where(Switches.name == name)
        row = self.connection.execute(query).one_or_none()
        return row and SwitchRow(*row)

    def set(self, name: str, value: str) -> None:
        """Set a switch; one that is set to that already stays so since it was."""
        row = insert(self.connection, Switches).values(name=name, value=value, at=self.now)
        changed = row.on_conflict_do_update(
            index_elements=[Switches.name],
            set_={"value": row.excluded.value, "at": row.excluded.at},
            where=Switches.value != row.excluded.value,
        )
        self.connection.execute(changed)

    def remove(self, name: str) -> None:
        """Unset a switch. It is not an error if nobody has set it."""
        self.connection.execute(delete(Switches).where(Switches.name == name))
