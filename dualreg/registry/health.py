"""Health: whether catalog and store work, for load balancers."""

import logging
from dataclasses import dataclass

from dualreg.registry.state import State

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """Tries what every push needs: reading the catalog and writing to the store."""

    state: State

    def failures(self) -> dict[str, str]:
        """Return what fails, ``catalog`` or ``storage``, with the name of the error; the log has details."""
        failures = {}
        for name, attempt in (("catalog", self._read), ("storage", self._write)):
            try:
                attempt()
            except Exception as error:  # noqa: BLE001 -- any failure is the answer
                _log.warning("health check failed: %s", name, exc_info=error)
                failures[name] = type(error).__name__
        return failures

    def _read(self) -> None:
        with self.state.catalog.read() as tx:
            tx.keys.find("")

    def _write(self) -> None:
        with self.state.staged(b""):
            pass
