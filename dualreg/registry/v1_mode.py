"""V1 mode: how much of the V1 API is served, by the setting ``v1`` and by what operators have switched it to.

The stricter of both counts: a command can restrict what the configuration file allows, and undo that, and no
more. Processes look at the switch at most once a second while V1 clients ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from time import monotonic

from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.switches import SwitchRow

#: The name of the switch.
_NAME = "v1"
#: Seconds for which a switch that was read counts.
FRESH = 1.0


class V1Mode(StrEnum):
    """How much of the V1 API is served, from all to nothing."""

    ON = "on"
    READONLY = "readonly"
    OFF = "off"

    @classmethod
    @cache  # every V1 request asks for it
    def strictest(cls, *modes: str) -> "V1Mode":
        """Return the one that serves least."""
        return max(map(cls, modes), key=[*cls].index)


@dataclass(frozen=True, slots=True)
class V1State:
    """How much of the V1 API is served.

    Attributes:
        v1: The stricter of the setting and the switch: on, readonly or off.
        setting: The setting v1.
        switch: What V1 was switched to; on: it is not restricted beyond the setting.
        since: When it was switched to that; null: it is not restricted.
    """

    v1: V1Mode
    setting: V1Mode
    switch: V1Mode
    since: datetime | None

    @property
    def restricted_since(self) -> datetime | None:
        """Since when less is served than the setting allows; None: it is not so."""
        return self.since if self.v1 is not self.setting else None

    @property
    def others(self) -> Sequence[V1Mode]:
        """What else it can be switched to: no more than the setting allows."""
        return [
            each for each in V1Mode if each is not self.v1 and V1Mode.strictest(each, self.setting) is each
        ]


@dataclass(slots=True)
class V1Switch:
    """Switches the V1 API, and remembers for a moment how."""

    catalog: Catalog
    _seen: V1Mode = field(default=V1Mode.ON, init=False)
    _until: float = field(default=0.0, init=False)

    def mode(self, setting: str) -> V1Mode:
        """Return how much is served; what was switched longer ago than a second counts.

        Args:
            setting: The setting ``v1``.
        """
        if known := self.known(setting):
            return known
        now = monotonic()
        self._seen = _mode_of(self._read())
        self._until = now + FRESH  # counted from before the look: what was committed since may be missing
        return V1Mode.strictest(setting, self._seen)

    def known(self, setting: str) -> V1Mode | None:
        """Return the same without asking the database; None: that takes a look there.

        Args:
            setting: The setting ``v1``.
        """
        if setting == V1Mode.OFF:
            return V1Mode.OFF
        return V1Mode.strictest(setting, self._seen) if monotonic() < self._until else None

    def look(self, setting: str) -> V1State:
        """Return how much is served, and why.

        Args:
            setting: The setting ``v1``.
        """
        row = self._read()
        switch = _mode_of(row)
        since = row.at if row and switch is not V1Mode.ON else None
        return V1State(V1Mode.strictest(setting, switch), V1Mode(setting), switch, since)

    def set(self, mode: V1Mode) -> None:
        """Serve no more than that from now on. ``on`` leaves it to the setting."""
        with self.catalog.begin() as tx:
            if mode is V1Mode.ON:
                tx.switches.remove(_NAME)
            else:
                tx.switches.set(_NAME, mode)
        self._until = 0.0

    def is_taken_over(self) -> bool:
        """Return whether the switch was taken over, with accounts, from a registry that is followed."""
        with self.catalog.read() as tx:
            return tx.notes.read(Note.MIRRORED) is not None

    def _read(self) -> SwitchRow | None:
        with self.catalog.read() as tx:
            return tx.switches.find(_NAME)


def _mode_of(row: SwitchRow | None) -> V1Mode:
    """Return what the switch is set to; a value that only a later version knows counts as the strictest."""
    if row is None:
        return V1Mode.ON
    return V1Mode(row.value) if row.value in [*V1Mode] else V1Mode.OFF
