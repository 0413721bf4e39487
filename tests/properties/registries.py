"""Registries by the dozen: an empty one for every example, and how clients of both eras fill it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from dualreg.assembly import build_registry
from dualreg.catalog.clock import utc_now
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.v1_image import payload_hasher
from dualreg.registry import Registry
from tests import quick
from tests.builders import Image, V1Pushed
from tests.conftest import GuardedCatalog, GuardedStore
from tests.databases import empty_database


@contextmanager
def fresh_registry(now: Callable[[], datetime] = utc_now) -> Iterator[Registry]:
    """Yield an empty registry, guarded like that of the fixtures, with *now* as its clock."""
    with (
        TemporaryDirectory(prefix="dualreg-example-", dir=quick.memory_folder()) as folder,
        empty_database(Path(folder)) as url,
        closing(GuardedCatalog(url, now=now)) as catalog,
    ):
        yield build_registry(catalog, GuardedStore())


def push_v2(registry: Registry, repository: RepositoryName, tag: Tag, pushed: Image) -> Manifest:
    """Push an image as a V2 client does."""
    for digest, blob in pushed.blobs.items():
        registry.uploads.ingest(repository, [blob], expected=digest)
    return registry.manifests.put(repository, tag, pushed.media_type, pushed.manifest)


def push_v1(
    registry: Registry, repository: RepositoryName, tag: Tag, chain: Sequence[V1Pushed], chunk: int = 100
) -> None:
    """Push a chain as a V1 client does, layers in pieces of *chunk* bytes."""
    for pushed in chain:
        checksum = payload_hasher(pushed.json)
        checksum.update(pushed.layer)
        pieces = [pushed.layer[start : start + chunk] for start in range(0, len(pushed.layer), chunk)]
        registry.v1_images.begin(repository, pushed.id, pushed.json)
        registry.v1_images.put_layer(repository, pushed.id, pieces)
        registry.v1_images.put_checksum(repository, pushed.id, checksum.digest())
    registry.bridge.tag(repository, tag, chain[-1].id)


def read_blob(registry: Registry, repository: RepositoryName, digest: Digest) -> bytes:
    """Return a blob's bytes as a client of the repository gets them."""
    blob = registry.blobs.stat(repository, digest)
    with registry.blobs.open(blob.digest) as reader:
        data = reader.read()
    assert len(data) == blob.size
    return data
