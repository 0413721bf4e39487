"""Health: whether what the registry stands on works, for load balancers."""

import logging
from dataclasses import dataclass

from dualreg.registry.state import State

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """Tries what every push needs."""

    state: State

    def failures(self) -> dict[str, str]:
        """Return what does not work, ``catalog`` or ``storage``, and why in a word; the log has details."""
        failures = {}
        for name, attempt in (("catalog", self._read), ("storage", self._write)):
            try:
                attempt()
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is the answer
                _log.warning("%s fails", name, exc_info=error)
                failures[name] = type(error).__name__
        return failures

    def _read(self) -> None:
        with self.state.catalog.read() as tx:
            tx.keys.find("")

    def _write(self) -> None:
        with self.state.staged(b""):
            pass
