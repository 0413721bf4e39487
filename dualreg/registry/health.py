"""Health: whether catalog and store work, for load balancers."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import NamedTuple

from dualreg.catalog.database import DatabaseFailure, failure_text, is_outage
from dualreg.catalog.notes import Note
from dualreg.errors import BlobDamaged
from dualreg.registry.state import State
from dualreg.storage.staging import staging

_log = logging.getLogger(__name__)

_SAMPLE = b"health"
#: Seconds after which what is being tried counts as failed.
_SLOW = 5.0


class _Result(NamedTuple):
    """What failed, and when that was found."""

    failures: Mapping[str, str]
    at: float


@dataclass(frozen=True, slots=True)
class Health:
    """Tries what every push needs: writing to the catalog and to the store, and reading that back.

    Attributes:
        interval: For how many seconds a result is kept; probes may be as many as they like.
    """

    state: State
    interval: float = 0.0
    _results: list[_Result] = field(default_factory=list)
    _trying: list[tuple[str, float]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def failures(self) -> Mapping[str, str]:
        """Return what fails, ``catalog`` or ``storage``, with the name of the error; the log has details.

        While another thread is trying, return what was found before, or that it takes too long.
        """
        is_first = not self._results
        if not self._lock.acquire(blocking=is_first):
            return self._results[-1].failures or self.slow()
        try:
            if not self._results or monotonic() - self._results[-1].at >= self.interval:
                self._results[:] = [_Result(self._try(), monotonic())]
            return self._results[-1].failures
        finally:
            self._lock.release()

    def _try(self) -> dict[str, str]:
        failures = {}
        for name, attempt in (("catalog", self._try_catalog), ("storage", self._try_store)):
            self._trying[:] = [(name, monotonic())]
            try:
                attempt()
            except Exception as error:  # noqa: BLE001 -- any failure is the answer
                _log.warning("health check failed: %s: %s", name, str(error).partition("\n")[0])
                failures[name] = type(error).__name__
        return failures

    def slow(self) -> dict[str, str]:
        """Return what was tried last, as failed, if that has not ended within seconds."""
        if not (self._trying and self._lock.locked()):
            return {}
        name, began = self._trying[-1]
        return {name: "TimeoutError"} if monotonic() - began > _SLOW else {}

    @staticmethod
    def outage(error: Exception) -> str | None:
        """Return in one line why the database is down, if that is what *error* means; otherwise None."""
        down = isinstance(error, DatabaseFailure) and is_outage(error)
        return failure_text(error) if down else None

    def _try_catalog(self) -> None:
        with self.state.catalog.begin() as tx:
            tx.notes.write(Note.HEALTH, tx.now.isoformat())
        with self.state.catalog.read() as tx:
            tx.notes.read(Note.HEALTH)

    def _try_store(self) -> None:
        with staging(self.state.store) as staged:
            staged.write([_SAMPLE])  # durably, as pushes do
            with staged.open() as reader:
                if reader.read() != _SAMPLE:
                    raise BlobDamaged(f"{staged.upload}: not what was written")
