"""Names: every metric, with its kind, its labels and its help. docs/monitoring.md has the same table.

No label has a value that clients choose: routes are those of the application, methods and statuses are from
fixed sets, and upstreams and webhooks are those of the operator.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

#: What the names begin with.
PREFIX = "dualreg_"


class Definition(NamedTuple):
    """A metric.

    Attributes:
        help: What it is; short, as each value has a copy of it.
        labels: Their names.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


#: What the processes of a server count, without PREFIX.
COUNTED: Mapping[str, Definition] = {
    "http_requests_total": Definition("counter", "Requests answered.", ("route", "method", "status")),
    "http_request_duration_seconds": Definition("histogram", "Time to answer.", ("route", "method")),
    "http_request_bytes_total": Definition("counter", "Bytes of bodies received.", ("route",)),
    "http_response_bytes_total": Definition("counter", "Bytes of bodies sent.", ("route",)),
    "http_requests_at_once_total": Definition("counter", "Requests answered without a thread."),
    "catalog_transaction_duration_seconds": Definition(
        "histogram", "Time of transactions.", ("driver", "kind", "result")
    ),
    "store_operation_duration_seconds": Definition(
        "histogram", "Time of store operations.", ("driver", "operation")
    ),
    "store_failures_total": Definition("counter", "Store operations that failed.", ("driver", "operation")),
    "editions_made_total": Definition("counter", "Editions of images made.", ("kind",)),
}
#: What each process is doing; of all that run, the sum.
SAMPLED: Mapping[str, Definition] = {
    "workers": Definition("gauge", "Worker processes."),
    "threads": Definition("gauge", "Threads for requests."),
    "threads_busy": Definition("gauge", "Threads that handle a request."),
    "requests_in_flight": Definition("gauge", "Requests that are handled."),
    "connections_waiting": Definition("gauge", "Connections without a request."),
    "transfers_in_flight": Definition("gauge", "Uploads and downloads that hold a thread."),
    "transcodings": Definition("gauge", "Layers that are, or wait to be, transcoded."),
    "downloads": Definition("gauge", "Blobs on their way from upstreams."),
}
#: What is found out when it is asked for.
LOOKED_AT: Mapping[str, Definition] = {
    "build_info": Definition("gauge", "The version.", ("version", "python")),
    "ready": Definition("gauge", "Whether /readyz is 200, as last checked."),
    "failing": Definition("gauge", "What fails, as /readyz names it.", ("component",)),
    "read_only": Definition("gauge", "Whether the registry is read-only."),
    "room_bytes": Definition("gauge", "Bytes that can be pushed before min_free is reached."),
}
#: What the catalog knows, looked at by one process once in a while.
FIGURES: Mapping[str, Definition] = {
    "figures_timestamp_seconds": Definition("gauge", "When the catalog was looked at."),
    "figures_duration_seconds": Definition("gauge", "How long that took."),
    "repositories": Definition("gauge", "Repositories."),
    "tags": Definition("gauge", "Tags."),
    "manifests": Definition("gauge", "Manifests, in all repositories."),
    "v1_images": Definition("gauge", "V1 images, in all repositories."),
    "blobs": Definition("gauge", "Blobs in the store.", ("kind",)),
    "blob_bytes": Definition("gauge", "Bytes of blobs in the store.", ("kind",)),
    "damaged_blobs": Definition("gauge", "Blobs that are known to be lost or damaged."),
    "catalog_bytes": Definition("gauge", "Size of the catalog."),
    "uploads": Definition("gauge", "Uploads that were begun and not finished."),
    "upload_bytes": Definition("gauge", "Bytes of these uploads."),
    "editions": Definition("gauge", "Editions of images in the registry.", ("kind",)),
    "v1_clients": Definition("gauge", "V1 clients seen in 30 days.", ("generation",)),
    "gc_candidates": Definition("gauge", "Links that a collection will review."),
    "gc_started_total": Definition("counter", "Collections begun."),
    "gc_runs_total": Definition("counter", "Collections ended.", ("result",)),
    "gc_deleted_blobs_total": Definition("counter", "Blobs deleted."),
    "gc_deleted_bytes_total": Definition("counter", "Bytes of blobs deleted."),
    "gc_discarded_uploads_total": Definition("counter", "Idle uploads discarded."),
    "gc_last_end_timestamp_seconds": Definition("gauge", "When the last collection ended."),
    "gc_last_duration_seconds": Definition("gauge", "How long it took."),
    "gc_last_complete": Definition("gauge", "Whether it left nothing that was due."),
    "webhook_waiting_events": Definition("gauge", "Events that a webhook has not got yet.", ("webhook",)),
    "webhook_dead_events": Definition("gauge", "Events that were given up.", ("webhook",)),
    "webhook_oldest_event_seconds": Definition("gauge", "Age of the oldest that waits.", ("webhook",)),
    "webhook_attempts_total": Definition(
        "counter", "Attempts to deliver an event, and events given up.", ("webhook", "result")
    ),
    "upstream_hits_total": Definition(
        "counter", "Pulls by tag that no upstream was needed for.", ("upstream",)
    ),
    "upstream_misses_total": Definition("counter", "Manifests and blobs fetched.", ("upstream",)),
    "upstream_stale_total": Definition("counter", "Older copies served.", ("upstream",)),
    "upstream_errors_total": Definition("counter", "Requests that failed.", ("upstream",)),
    "upstream_bytes_total": Definition("counter", "Bytes of blobs fetched.", ("upstream",)),
}
#: All of them.
METRICS: Mapping[str, Definition] = {**COUNTED, **SAMPLED, **LOOKED_AT, **FIGURES}
