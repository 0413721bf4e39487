"""Metering: what a worker counts of its requests, its catalog and its store, if metrics are on."""

import re
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from dualreg.cli.server_log import bytes_sent, is_replaced
from dualreg.monitoring import metrics
from dualreg.monitoring.figures import SharedFigures
from dualreg.monitoring.folder import MetricsFolder
from dualreg.monitoring.metrics import NO_ROUTE, Metrics
from dualreg.monitoring.page import State, page
from dualreg.registry.incoming import DOWNLOAD
from dualreg.web.context import Parts
from dualreg.web.responses import RECEIVED, ROUTE, route_name

#: Where the environment says that a request was counted, before it is logged.
_COUNTED = "dualreg.counted"
_METHOD = re.compile(rb"([A-Z]{1,10}) ")


class Meter:
    """Counts for one worker."""

    def __init__(self, parts: Parts, folder: MetricsFolder, process: int) -> None:
        """Count what an application with these *parts* does, in the files of *process*.

        Raises:
            OSError: there is no room for them.
        """
        folder.reserve(process)
        metrics.join()
        self._parts, self._folder = parts, folder
        self._metrics = Metrics()
        self._figures = SharedFigures(folder.path, parts.registry.figures.look)
        self._editions = dict[str, int]()
        drivers = [urlsplit(url).scheme for url in parts.settings.store_urls]
        parts.registry.observe(drivers, self._transaction, self._operation)

    def access(self, log: Callable[..., None]) -> Callable[..., None]:
        """Return gunicorn's method *log* for requests that were answered, which from now on are counted."""

        def access(resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:  # noqa: ANN401 -- gunicorn's
            status = f"{resp.status}"[:3]  # of a response that was not begun, None
            if status.isdigit() and not is_replaced(resp) and _COUNTED not in environ:
                seconds, sent = request_time.total_seconds(), bytes_sent(resp)
                self._count(environ, status, seconds, sent)
            log(resp, req, environ, request_time)

        return access

    def count_at_once(self, environ: dict[str, Any], status: int, seconds: float, sent: int) -> None:
        """Count a request that was answered without a thread; see ``FastPath.count``."""
        environ[_COUNTED] = True
        self._count(environ, f"{status}", seconds, sent, at_once=True)

    def count_refusal(self, asked: bytes, status: int) -> None:
        """Count a request that the server refuses itself, given its beginning."""
        method = _METHOD.match(asked)
        self._metrics.count_request(NO_ROUTE, method[1].decode() if method else "", f"{status}", 0.0)

    def sample(self, values: Mapping[str, int]) -> None:
        """Set gauges, those given by name and those of the background, and write what was counted."""
        registry = self._parts.registry
        self._metrics.sample(
            {
                "workers": 1,
                "transfers_in_flight": self._parts.slots.taken,
                "transcodings": registry.transcoding.flights.count,
                "downloads": sum(each.name == DOWNLOAD for each in threading.enumerate()),
                **values,
            }
        )
        for kind, count in (*registry.editions.made.items(),):
            if count > (known := self._editions.get(kind, 0)):
                self._metrics.count_editions(kind, count - known)
                self._editions[kind] = count
        self.flush()

    def flush(self) -> None:
        """Write what was counted and not written yet."""
        self._metrics.flush()

    def page(self, failures: Mapping[str, str] | None, *, is_stopping: bool) -> bytes:
        """Return all metrics; for ``State``, what the worker knows."""
        self.flush()
        writes = self._parts.writes
        state = State(failures, is_stopping, writes.marked() is not None, writes.room())
        return page(self._folder, self._figures.known(), state)

    def _count(
        self, environ: Mapping[str, Any], status: str, seconds: float, sent: int, *, at_once: bool = False
    ) -> None:
        get = environ.get
        self._metrics.count_request(
            route_name(get(ROUTE, "")) or NO_ROUTE,
            environ["REQUEST_METHOD"],
            status,
            seconds,
            received=get(RECEIVED, 0),
            sent=sent,
            at_once=at_once,
        )

    def _transaction(self, driver: str, kind: str, seconds: float, failed: bool) -> None:  # noqa: FBT001 -- observers are called so
        self._metrics.count_transaction(driver, kind, seconds, failed=failed)

    def _operation(self, driver: str, operation: str, seconds: float, failed: bool) -> None:  # noqa: FBT001 -- likewise
        self._metrics.count_operation(driver, operation, seconds, failed=failed)
