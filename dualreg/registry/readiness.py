"""Readiness: what a check found, known without waiting for it.

A load balancer asks often, and an answer must not depend on threads that clients keep busy, or on a database
that does not answer. So the check is made in a thread of its own, and only while somebody asks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic
from types import MappingProxyType

#: What fails, by name, and the name of the error.
Failures = Mapping[str, str]

#: Seconds after which what was found is checked again, and after which it says nothing any more.
_FRESH, _OLD = 1.0, 30.0
#: Seconds after which a check that has not ended counts as failed.
_SLOW = 5.0
#: What is said if nothing else is known.
_UNKNOWN: Failures = MappingProxyType({"check": "TimeoutError"})


@dataclass
class Readiness:
    """Remembers what a check found.

    Attributes:
        check: Returns what fails; it may take long, and is never called twice at once.
        slow: Returns what the check waits for, if that has taken too long.
    """

    check: Callable[[], Failures]
    slow: Callable[[], Failures] = dict
    _found: tuple[Failures, float] | None = None
    _began: float | None = None
    _done: list[Callable[[], None]] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    @property
    def is_fresh(self) -> bool:
        """Whether the last check has just ended."""
        return self._found is not None and monotonic() - self._found[1] < _FRESH

    def failures(self) -> Failures | None:
        """Return what fails as far as is known now; None: no check has ended yet.

        A check that does not end has failed.
        """
        now, began, found = monotonic(), self._began, self._found
        if began is not None and now - began > _SLOW:
            return self.slow() or _UNKNOWN
        if found is None:
            return None
        return found[0] if now - found[1] < _OLD else _UNKNOWN

    def look(self, patience: float) -> Failures | None:
        """Return what ``failures`` does, after a check that is waited for up to *patience* seconds."""
        if not self.is_fresh:
            done = Event()
            self.refresh(done.set)
            done.wait(patience)
        return self.failures()

    def refresh(self, done: Callable[[], None]) -> None:
        """Check again in the background, unless that is going on; call *done* there at its end.

        If no thread can be started, that is what the check has found.
        """
        with self._lock:
            self._done.append(done)
            if self._began is not None:
                return
            self._began = monotonic()
        try:
            Thread(target=self._run, name="readiness", daemon=True).start()
        except RuntimeError as error:
            self._end({"check": type(error).__name__})

    def _run(self) -> None:
        try:
            failures = self.check()
        except Exception as error:  # noqa: BLE001 -- any failure is the answer
            failures = {"check": type(error).__name__}
        self._end(failures)

    def _end(self, failures: Failures) -> None:
        with self._lock:
            self._found, self._began = (failures, monotonic()), None
            waiting, self._done = self._done, []
        for done in waiting:
            done()
