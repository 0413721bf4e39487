"""Page: all metrics of a server, as Prometheus reads them.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, the text format 0.0.4.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from dualreg import __version__
from dualreg.monitoring.figures import Known
from dualreg.monitoring.folder import MetricsFolder
from dualreg.monitoring.names import METRICS, PREFIX

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
#: What may fail, as ``/readyz`` names it.
_COMPONENTS = ("catalog", "storage", "audit", "check")


class State(NamedTuple):
    """What the process that is asked knows.

    Attributes:
        failures: What fails, by name; None: that is not known yet.
        room: Bytes that can be pushed before ``min_free`` is reached.
    """

    failures: Mapping[str, str] | None
    is_stopping: bool
    is_read_only: bool
    room: int


def page(folder: MetricsFolder, known: Known | None, state: State) -> bytes:
    """Return all metrics: those counted in *folder*, the figures that are *known*, and *state*."""
    registry = CollectorRegistry()
    with folder.reading():
        counted = [*MultiProcessCollector(None, f"{folder.path}").collect()]
    registry.register(_Collected([*counted, *_state(state), *(_figures(known) if known else ())]))
    return generate_latest(registry)


class _Collected:
    """Metrics that were collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _state(state: State) -> Iterator[Metric]:
    yield _family("build_info", {(__version__, platform.python_version()): 1})
    yield _family("ready", {(): state.failures == {} and not state.is_stopping})
    failures = state.failures or {}
    yield _family("failing", {(name,): name in failures for name in _COMPONENTS})
    yield _family("read_only", {(): state.is_read_only})
    yield _family("room_bytes", {(): max(state.room, 0)})


def _figures(known: Known) -> Iterator[Metric]:
    found = known["found"]
    yield _family("figures_timestamp_seconds", {(): known["at"]})
    yield _family("figures_duration_seconds", {(): known["seconds"]})
    for name, count in found["rows"].items():
        yield _family(name, {(): count})
    yield _family("blobs", {(kind,): count for kind, (count, _) in found["blobs"].items()})
    yield _family("blob_bytes", {(kind,): size for kind, (_, size) in found["blobs"].items()})
    yield _family("damaged_blobs", {(): found["damaged"]})
    yield _family("catalog_bytes", {(): found["catalog_bytes"]})
    yield _family("uploads", {(): found["uploads"][0]})
    yield _family("upload_bytes", {(): found["uploads"][1]})
    yield _family("editions", {(kind,): count for kind, count in found["editions"].items()})
    yield _family("v1_clients", {(name,): count for name, count in found["v1_clients"].items()})
    yield _family("gc_candidates", {(): found["candidates"]})
    yield from _collections(found["gc"], found["gc_started"])
    yield from _webhooks(found["webhooks"])
    for name in ("hits", "misses", "stale", "errors", "bytes"):
        counts = {(each["upstream"],): each[name] for each in found["upstreams"]}
        yield _family(f"upstream_{name}_total", counts)


def _webhooks(found: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    for name, key in (
        ("waiting_events", "waiting"),
        ("dead_events", "dead"),
        ("oldest_event_seconds", "age"),
    ):
        yield _family(f"webhook_{name}", {(webhook,): each[key] for webhook, each in found.items()})
    results = ("delivered", "failed", "given_up")
    counts = {(webhook, key): each[key] for webhook, each in found.items() for key in results}
    yield _family("webhook_attempts_total", counts)


def _collections(totals: Mapping[str, Any], started: int) -> Iterator[Metric]:
    yield _family("gc_started_total", {(): started})
    yield _family("gc_runs_total", {(result,): totals[result] for result in ("complete", "stopped")})
    yield _family("gc_deleted_blobs_total", {(): totals["blobs"]})
    yield _family("gc_deleted_bytes_total", {(): totals["bytes"]})
    yield _family("gc_discarded_uploads_total", {(): totals["uploads"]})
    if totals["ended_at"]:
        yield _family("gc_last_end_timestamp_seconds", {(): totals["ended_at"]})
        yield _family("gc_last_duration_seconds", {(): totals["seconds"]})
        yield _family("gc_last_complete", {(): totals["is_complete"]})


def _family(name: str, values: Mapping[Any, float]) -> Metric:
    """Return a metric with values by tuples of those of its labels."""
    definition = METRICS[name]
    kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    family: Any = kind(f"{PREFIX}{name}", definition.help, labels=definition.labels)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family  # type: ignore[no-any-return]  # of either class
