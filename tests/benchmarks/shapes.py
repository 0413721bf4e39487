"""What can be measured: registries over folders, over an object store, and as several instances."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import boto3

from tests.benchmarks.rows import Effort
from tests.benchmarks.servers import Server, others, reference, servers, settings
from tests.contracts.radosgw import ObjectStore, radosgw, reference_settings, settings_of
from tests.instances.fleet import fleet, shared_storage
from tests.nginx.site import make_certificate
from tests.programs import dualreg_process

_REGION, _BUCKET = "us-east-1", "bench"


@contextmanager
def _over_objects(folder: Path, against: Mapping[str, str], *, fresh: bool) -> Iterator[list[Server]]:
    """Run one instance and the reference registry over the same object store."""
    with ExitStack() as stack:
        objects = stack.enter_context(bucket())
        chosen = {**settings(accounts=False), **store(objects)}
        theirs = reference_settings(objects.url(_BUCKET, "reference"))
        serving = stack.enter_context(dualreg_process(folder / "ours", fresh=fresh, **chosen))
        about = "one instance over radosgw, its catalog in SQLite"
        pids = (serving.process.pid,)
        yield [
            Server("objects", serving.host, speaks_v1=True, ours=True, pids=pids, about=about),
            stack.enter_context(reference(folder, redirect={"disable": True}, s3=theirs)),
            *others(against),
        ]


def store(objects: ObjectStore) -> dict[str, str]:
    """Return the settings of a store in the bucket."""
    return settings_of(objects.url(_BUCKET, "ours"))


@contextmanager
def bucket() -> Iterator[ObjectStore]:
    """Run an object store with an empty bucket, which programs can log into."""
    with radosgw() as objects, patch.dict(os.environ, objects.variables):
        os.environ.pop("AWS_CA_BUNDLE", None)
        client = boto3.client("s3", endpoint_url=objects.endpoint, region_name=_REGION)
        client.create_bucket(Bucket=_BUCKET)
        yield objects


@contextmanager
def _instances(folder: Path, against: Mapping[str, str], *, fresh: bool) -> Iterator[list[Server]]:
    """Run three instances of two processes and of one, and one of two, over PostgreSQL, behind nginx."""
    with ExitStack() as stack:
        certificate, found = make_certificate(folder), []
        for name, number, workers in (("three", 3, 2), ("three-single", 3, 1), ("one", 1, 2)):
            own = folder / name
            own.mkdir()
            chosen = {
                **settings(accounts=False),
                **stack.enter_context(shared_storage("folder", own)),
                "workers": workers,
            }
            made = stack.enter_context(fleet(own, certificate, chosen, wrappers=[()] * number, fresh=fresh))
            about = f"{number} behind nginx, over PostgreSQL and a folder; processes of each: {workers}"
            found.append(Server(name, made.host, speaks_v1=True, ours=number > 1, about=about))
        yield [*found, *others(against)]


@dataclass(frozen=True, slots=True)
class Shape:
    """Registries that are measured beside each other.

    Attributes:
        servers: Runs them; it takes what ``servers.servers`` takes.
        effort: For each sample, if it is not said to be quick.
    """

    servers: Callable[..., AbstractContextManager[list[Server]]]
    effort: Effort


#: By the name on the command line.
SHAPES = {
    "disk": Shape(servers, Effort()),
    # The object store keeps everything in memory, and what is deleted for hours.
    "objects": Shape(_over_objects, Effort(big=64 << 20)),
    "instances": Shape(_instances, Effort()),
}
