"""Health: whether catalog and store work, for load balancers."""

import logging
from dataclasses import dataclass

from dualreg.catalog.database import DatabaseFailure, failure_text, is_outage
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
                _log.warning("health check failed: %s: %s", name, str(error).partition("\n")[0])
                failures[name] = type(error).__name__
        return failures

    @staticmethod
    def outage(error: Exception) -> str | None:
        """Return in one line why the database is down, if that is what *error* means; otherwise None."""
        down = isinstance(error, DatabaseFailure) and is_outage(error)
        return f"catalog error: {failure_text(error)}" if down else None

    def _read(self) -> None:
        with self.state.catalog.read() as tx:
            tx.keys.find("")

    def _write(self) -> None:
        with self.state.staged(b""):
            pass
