"""Two instances over one bucket and one catalog: what one of them does, the other one knows."""

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.errors import BlobUnknown, ReferencesMissing, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.leases import LEASE
from dualreg.storage import open_store
from dualreg.storage.s3 import PART, Bucket
from dualreg.storage.s3_store import S3Store, _blob
from tests import builders
from tests.conftest import Clock
from tests.contracts.radosgw import s3_bucket
from tests.contracts.s3_faults import SLOW, Faults, faulty
from tests.properties.registries import push_v2

pytestmark = pytest.mark.s3

NAME = RepositoryName("team/app")
#: Enough for a segment that another one may follow.
FIRST = hashlib.shake_128(b"first").digest(PART)


class Instances(NamedTuple):
    """Two registries, the bucket, and what the proxy before it does."""

    first: Registry
    second: Registry
    bucket: Bucket
    faults: Faults


@pytest.fixture
def instances(catalog: Catalog) -> Iterator[Instances]:
    """Both, over an empty bucket."""
    with s3_bucket() as url:
        endpoint = parse_qs(urlsplit(url).query)["endpoint"][0]
        with faulty(endpoint) as (proxy, faults):
            stores = [open_store(url.replace(quote_plus(endpoint), quote_plus(proxy))) for _ in range(2)]
            bucket = Bucket.parse(url)
            yield Instances(*(build_registry(catalog, store) for store in stores), bucket, faults)
            for store in stores:
                assert isinstance(store, S3Store)
                store.close()
            bucket.close()


def test_a_blob_that_another_instance_set_aside_is_lost(instances: Instances) -> None:
    """Though this one has just found it: clients send it again, and no manifest may name it until then."""
    first, second, bucket, _ = instances
    image = builders.image(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))
    digest, data = max(image.blobs.items(), key=lambda each: len(each[1]))
    push_v2(first, NAME, Tag("1"), image)
    second.blobs.require(second.blobs.stat(NAME, digest))
    assert second.state.store.has_seen(digest, len(data))
    bucket.put(_blob(digest), data[:-1] + bytes([data[-1] ^ 1]))
    assert not first.integrity.verify(digest)
    with pytest.raises(BlobUnknown):
        second.blobs.require(second.blobs.stat(NAME, digest))
    with pytest.raises(ReferencesMissing):
        second.manifests.put(NAME, Tag("2"), image.media_type, image.manifest)
    push_v2(first, NAME, Tag("1"), image)
    second.blobs.require(second.blobs.stat(NAME, digest))
    second.manifests.put(NAME, Tag("2"), image.media_type, image.manifest)


def test_layers_of_other_instances_are_looked_at_together(instances: Instances) -> None:
    """Once each, however many a manifest names that were pushed elsewhere; later ones need no look."""
    first, second, _, faults = instances
    image = builders.image(*(builders.layer({"a": bytes([number])}) for number in range(20)))
    push_v2(first, NAME, Tag("1"), image)
    second.blobs.find(NAME, image.digest)
    second.state.store.stat(image.digest)  # which finds the bucket
    faults.requests.clear()
    faults.begin("slow")
    began = time.monotonic()
    second.manifests.put(NAME, Tag("2"), image.media_type, image.manifest)
    looks = [path for method, path in faults.requests if method == "HEAD"]
    assert len(looks) == len({*looks}) == len(image.blobs) + 1
    assert time.monotonic() - began < SLOW * len(image.blobs)


@pytest.mark.parametrize("finishes", [False, True])
def test_a_takeover_copies_nothing(instances: Instances, clock: Clock, *, finishes: bool) -> None:
    """What an instance adds that was stalled is in no layout; it is refused, whatever has happened since."""
    first, second, _, faults = instances
    upload = first.uploads.start(NAME).id
    first.uploads.append(NAME, upload, [FIRST])
    digest = Digest.of(FIRST + b"second")

    def late() -> Iterator[bytes]:
        yield b"late"
        clock.advance(2 * LEASE)
        faults.requests.clear()
        second.uploads.append(NAME, upload, [b"second"], offset=PART)
        assert not [each for each in faults.requests if each[0] == "GET"]
        if finishes:
            second.uploads.finish(NAME, upload, digest)
        yield b"later"

    with pytest.raises(RegistryError):
        first.uploads.append(NAME, upload, late(), offset=PART)
    if not finishes:
        second.uploads.finish(NAME, upload, digest)
    with second.state.store.open(digest) as blob:
        assert blob.read() == FIRST + b"second"
    for registry in (first, second):
        registry.state.store.flush()  # type: ignore[attr-defined] -- S3Store's
    assert {*first.uploads.strays(datetime.max.replace(tzinfo=UTC))} <= {upload}
