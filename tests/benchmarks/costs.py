"""What requests cost an instance, PostgreSQL, and an object store.

Others commit all the time, so that no answer is repeated without a look into the database.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from sqlalchemy import Connection as SqlConnection

from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    Repositories,
    RepositoryBlobs,
    Table,
    Tags,
)
from dualreg.catalog.upgrade import upgrade
from dualreg.image.digest import Digest
from dualreg.image.media_types import OCI_MANIFEST
from tests.benchmarks.filling import LONG_AGO, blob_row, record
from tests.benchmarks.images import accepting, new_image, push
from tests.benchmarks.load import load
from tests.benchmarks.profile import processor_time
from tests.benchmarks.servers import settings
from tests.benchmarks.shapes import bucket, store
from tests.benchmarks.wire import Connection, head
from tests.builders import Image
from tests.contracts.postgresql import Cluster, postgresql_cluster
from tests.contracts.s3_faults import Faults, faulty
from tests.programs import Serving, dualreg_process

#: Layers of an image.
LAYERS = 3
#: Kinds of requests.
VERSION, HEAD, TAG = "GET /v2/", "HEAD manifest by tag", "GET manifest by tag"
DIGEST, BLOB, PUSH = "GET manifest by digest", "GET blob, redirected", f"push of {LAYERS} layers"
#: Images that are read in turn, and the bytes of a layer.
_IMAGES, _LAYER = 20, 4000
#: Seconds between the commits of others.
_COMMIT = 0.002
#: Seconds until what is deleted after an answer is.
_DELETED = 0.5
#: Images that are recorded at once, and those of a repository.
_BATCH, _TAGS = 5_000, 10
_REPOSITORY = "bench/scale"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs.

    Attributes:
        instance: Microseconds of processor time.
        database: Also of it.
        logged: Bytes of the database's log.
        reads: Requests to the object store that read.
        writes: Also, that write.
    """

    instance: float
    database: float
    logged: float
    reads: float
    writes: float


def costs(seconds: float) -> dict[str, Cost]:
    """Return what each kind of request costs an instance of two processes, under load for that long."""
    with _meter() as meter, _commits(meter.cluster):
        return {kind: meter.cost(act) for kind, act in _acts(meter.serving.host, seconds)}


@dataclass(frozen=True, slots=True)
class _Meter:
    """Where costs can be read."""

    serving: Serving
    database: int
    cluster: Cluster
    objects: Faults

    def cost(self, act: Callable[[], int]) -> Cost:
        """Return what each of the requests costs that *act* sends; it returns how many these are."""
        self.objects.requests.clear()
        before = self._spent()
        number = act()
        time.sleep(_DELETED)
        spent = (after - then for after, then in zip(self._spent(), before, strict=True))
        methods = [
            method for method, path in self.objects.requests if "?delete" not in path
        ]  # free of charge
        reads = sum(method in {"GET", "HEAD"} for method in methods)
        return Cost(*(amount / number for amount in (*spent, reads, len(methods) - reads)))

    def _spent(self) -> tuple[float, float, float]:
        position = _ask(self.cluster, "SELECT pg_current_wal_lsn() - '0/0'")
        return processor_time([self.serving.process.pid]), processor_time([self.database]), position


@contextmanager
def _meter() -> Iterator[_Meter]:
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="dualreg-bench-")))
        cluster = enter(postgresql_cluster())
        database = enter(cluster.running(fsync="on"))
        with closing(Catalog(cluster.url())) as catalog:
            upgrade(catalog)
        server = enter(bucket())
        endpoint, objects = enter(faulty(server.endpoint))
        chosen = {
            **settings(accounts=False),
            **store(server),
            "s3_endpoint": endpoint,
            "database": cluster.url(),
            "s3_redirects": "on",
        }
        serving = enter(dualreg_process(folder / "data", fresh=True, **chosen))
        yield _Meter(serving, database.pid, cluster, objects)


@contextmanager
def _commits(cluster: Cluster) -> Iterator[None]:
    """Commit again and again, as pushes to other instances do."""
    ended = Event()

    def commit() -> None:
        with closing(cluster.connect()) as connection:
            while not ended.wait(_COMMIT):
                connection.execute("SELECT pg_current_xact_id()")

    thread = Thread(target=commit)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _acts(host: str, seconds: float) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield what is measured: the kind of request, and what sends many and returns how many they were."""
    images = [new_image(LAYERS, _LAYER) for _ in range(_IMAGES)]
    yield PUSH, partial(_push, host, images)
    repository = f"/v2/{_REPOSITORY}"
    tags = [f"{repository}/manifests/v{number}" for number in range(_IMAGES)]
    digests = [f"{repository}/manifests/{image.digest}" for image in images]
    layers = [f"{repository}/blobs/{Digest.of(layer)}" for image in images for layer in image.layers]
    for kind, method, paths in (
        (VERSION, "GET", ["/v2/"]),
        (HEAD, "HEAD", tags),
        (TAG, "GET", tags),
        (DIGEST, "GET", digests),
        (BLOB, "GET", layers),
    ):
        yield kind, partial(_read, host, method, paths, accepting(images[0], {}), seconds)


def _push(host: str, images: Sequence[Image]) -> int:
    with Connection(host) as connection:
        for number, image in enumerate(images):
            push(connection, _REPOSITORY, image, f"v{number}")
    return len(images)


def _read(host: str, method: str, paths: Sequence[str], headers: Mapping[str, str], seconds: float) -> int:
    """Send the requests in turn; return how many were answered."""
    with Connection(host, headers) as connection:
        answer = connection.ask(method, paths[0])
    requests = [head(host, method, path, headers) for path in paths]
    return load(host, requests, answer.status, answer.received, seconds).count


def bytes_of_a_blob(images: int) -> float:
    """Return how much the database grows by a blob, with its share of the rows of images and repositories.

    Args:
        images: How many are recorded.
    """
    size = "SELECT pg_database_size('postgres')"
    with postgresql_cluster() as cluster, cluster.running(), closing(Catalog(cluster.url())) as catalog:
        upgrade(catalog)
        before = _ask(cluster, size)
        for first in range(0, images, _BATCH):
            with catalog.engine.begin() as connection:
                _record(connection, range(first, min(first + _BATCH, images)))
        return (_ask(cluster, size) - before) / (images * (LAYERS + 2))


def _record(connection: SqlConnection, images: Sequence[int]) -> None:
    rows: dict[type[Table], list[dict[str, Any]]] = {}
    for of, values in (each for image in images for each in _rows(image)):
        rows.setdefault(of, []).append(values)
    record(connection, rows)


def _rows(image: int) -> Iterator[tuple[type[Table], dict[str, Any]]]:
    """Yield the rows of an image, those first that others refer to."""
    own: dict[str, Any] = {"repository_id": image // _TAGS + 1}
    if image % _TAGS == 0:
        name = f"group{image % 1000}/repository{image}"
        yield Repositories, {"id": own["repository_id"], "name": name, "created_at": LONG_AGO}
    manifest, *children = (Digest.of(b"%d/%d" % (image, number)) for number in range(LAYERS + 2))
    for digest in (manifest, *children):
        yield Blobs, blob_row(digest, _LAYER)
        yield RepositoryBlobs, own | {"digest": digest, "linked_at": LONG_AGO}
    described = {"media_type": OCI_MANIFEST, "artifact_type": "", "annotations": {}}
    yield Manifests, own | described | {"digest": manifest, "pushed_at": LONG_AGO}
    for position, child in enumerate(children):
        named = {"manifest": manifest, "child": child, "position": position}
        yield ManifestChildren, own | named | {"role": "layer" if position else "config"}
    yield Tags, own | {"name": f"v{image}", "manifest": manifest, "updated_at": LONG_AGO}


def _ask(cluster: Cluster, query: str) -> float:
    """Return the number that a query finds."""
    with closing(cluster.connect()) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row
    return float(row[0])
