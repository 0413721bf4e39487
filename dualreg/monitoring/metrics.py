"""Metrics: what a worker counts, in files of its own that are added up when they are asked for.

Counting must cost requests next to nothing: they count in memory, and what was counted is written once a
second, when gauges are set.
"""

from bisect import bisect_left
from collections import Counter as CounterOf
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from dualreg.monitoring.names import COUNTED, METRICS, PREFIX, SAMPLED

#: Upper ends of buckets, in seconds: from answers that are in memory to large blobs of slow clients.
_REQUESTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)
_OPERATIONS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10)
_BUCKETS = {"http_request_duration_seconds": _REQUESTS}
#: The methods that have a value of their own.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The label of other methods, and of requests that no route takes.
OTHER, NO_ROUTE = "other", "none"
#: The label of statuses that are none.
NO_STATUS = "0"
_STATUSES = frozenset({f"{status}" for status in [*HTTPStatus]})


class _Histogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations: how many are in each bucket, and their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class _Times:
    """Observations that were not added to a histogram yet."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts, self.total = [0] * (len(bounds) + 1), 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds


class Metrics:
    """What this process counts.

    It is kept in memory, and written by ``flush`` about every second: an addition to a file takes longer than
    many in memory.
    """

    def __init__(self) -> None:
        """Begin, in the files of this process if ``join`` was called before, otherwise in memory."""
        registry = CollectorRegistry()
        self._made = {name: _make(name, registry) for name in (*COUNTED, *SAMPLED)}
        self._sums = CounterOf[tuple[str, tuple[str, ...]]]()
        self._times = dict[tuple[str, tuple[str, ...]], _Times]()
        self._lock = Lock()

    def count_request(
        self,
        route: str,
        method: str,
        status: str,
        seconds: float,
        *,
        received: int = 0,
        sent: int = 0,
        at_once: bool = False,
    ) -> None:
        """Count a request that was answered, with the bytes of both bodies.

        Args:
            route: That of the application, or NO_ROUTE.
            status: Three digits; all else is no status.
            at_once: Whether no thread was needed.
        """
        method = method if method in _METHODS else OTHER
        status = status if status in _STATUSES else NO_STATUS
        with self._lock:
            self._sums["http_requests_total", (route, method, status)] += 1
            if at_once:
                self._sums["http_requests_at_once_total", ()] += 1
            self._observe("http_request_duration_seconds", (route, method), seconds)
            if received:
                self._sums["http_request_bytes_total", (route,)] += received
            if sent:
                self._sums["http_response_bytes_total", (route,)] += sent

    def count_transaction(self, driver: str, kind: str, seconds: float, *, failed: bool) -> None:
        """Count a transaction of the catalog; *kind* is ``read`` or ``write``."""
        labels = (driver, kind, "failed" if failed else "ok")
        with self._lock:
            self._observe("catalog_transaction_duration_seconds", labels, seconds)

    def count_operation(self, driver: str, operation: str, seconds: float, *, failed: bool) -> None:
        """Count an operation of the store."""
        labels = (driver, operation)
        with self._lock:
            self._observe("store_operation_duration_seconds", labels, seconds)
            if failed:
                self._sums["store_failures_total", labels] += 1

    def count_editions(self, kind: str, count: int) -> None:
        """Count editions of images that were made."""
        with self._lock:
            self._sums["editions_made_total", (kind,)] += count

    def sample(self, values_by_name: Mapping[str, int]) -> None:
        """Set gauges of this process, by name."""
        for name, value in values_by_name.items():
            self._made[name].set(value)

    def flush(self) -> None:
        """Write what was counted since the last call."""
        with self._lock:
            sums, times = self._sums, self._times
            self._sums, self._times = CounterOf(), {}
        for (name, labels), value in sums.items():
            self._child(name, labels).inc(value)
        for (name, labels), observed in times.items():
            self._child(name, labels).add(observed.counts, observed.total)

    def _child(self, name: str, labels: tuple[str, ...]) -> Any:  # noqa: ANN401 -- of several classes
        return self._made[name].labels(*labels) if labels else self._made[name]

    def _observe(self, name: str, labels: tuple[str, ...], seconds: float) -> None:
        """Add an observation, for a caller that has the lock."""
        known = self._times.get((name, labels))
        if known is None:
            known = self._times[name, labels] = _Times(_BUCKETS.get(name, _OPERATIONS))
        known.observe(seconds)


def join() -> None:
    """Have what is counted in this process from now on kept in files, where the environment names a folder.

    The library would decide that when it is imported, which is before the folder is made.
    """
    values.ValueClass = values.MultiProcessValue()


def _make(name: str, registry: CollectorRegistry) -> Any:  # noqa: ANN401 -- of three classes
    definition = METRICS[name]
    full = f"{PREFIX}{name}"
    if definition.kind == "counter":
        return Counter(full, definition.help, definition.labels, registry=registry)
    if definition.kind == "gauge":
        return Gauge(full, definition.help, definition.labels, registry=registry, multiprocess_mode="livesum")
    buckets = _BUCKETS.get(name, _OPERATIONS)
    return _Histogram(full, definition.help, definition.labels, registry=registry, buckets=buckets)
