"""Later: work that is put off a little, so that many requests share one write."""

import logging
from collections.abc import Callable
from datetime import timedelta
from threading import Lock, Timer

_log = logging.getLogger(__name__)


class Later:
    """Runs an action some time after it was first asked for, however often that is until then."""

    def __init__(self, action: Callable[[], None], delay: timedelta | None) -> None:
        """Run *action* *delay* after a ``request``; None: never by itself."""
        self._action = action
        self._delay = delay
        self._timer: Timer | None = None
        self._lock = Lock()

    def request(self) -> None:
        """Ask for the action."""
        with self._lock:
            if self._delay and self._timer is None:
                self._timer = Timer(self._delay.total_seconds(), self._run)
                self._timer.daemon = True
                self._timer.start()

    def _run(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self._action()
        except Exception:  # noqa: BLE001 -- a busy or broken database must not end the thread unlogged
            _log.exception("what was put off could not be written")
