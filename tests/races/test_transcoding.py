"""Many clients of two servers, each of two workers, ask for layers at once that must be transcoded first."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.client import IncompleteRead
from pathlib import Path

import pytest
from sqlalchemy import select

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import TranscodedLayers
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.layer import read_diff_id
from dualreg.image.names import RepositoryName, Tag
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.programs import until
from tests.properties.registries import push_v2
from tests.protocol.clients.wire import Answer, Wire
from tests.races.site import again_and_again

pytestmark = pytest.mark.slow

NAME = RepositoryName("team/app")
DOCKER = {
    "User-Agent": "docker/20.10.24 go/go1.19.8 os/linux arch/amd64",
    "Accept": f"{media_types.OCI_MANIFEST}, {media_types.DOCKER_MANIFEST}",
}
#: Bytes of a layer that take a moment to compress.
_SIZE = 6 << 20


class Leases:
    """The leases under which layers were transcoded, by the layer; looked for while the block runs."""

    def __init__(self, catalog: Catalog) -> None:
        """Look into a catalog."""
        self.seen = dict[Digest, dict[str, str]]()
        self._catalog = catalog

    def look(self) -> bool:
        """Look once; return whether any was seen so far."""
        table = TranscodedLayers
        query = select(table.source, table.lease, table.process).where(table.lease.is_not(None))
        with self._catalog.read() as tx:
            for source, lease, process in tx.connection.execute(query):
                self.seen.setdefault(source, {})[lease] = process
        return bool(self.seen)

    def looking(self) -> AbstractContextManager[None]:
        """Look all the time."""
        return again_and_again(self.look, 0.01)


def push(tmp_path: Path, catalog: Catalog, seed: str) -> builders.Image:
    """Push an image of two zstd layers, of which one is large."""
    noise = hashlib.shake_256(seed.encode()).hexdigest(_SIZE // 2).encode()
    layers = [builders.layer({"large": noise}), builders.layer({"small": seed.encode()})]
    image = builders.zstd_image(*layers)
    push_v2(build_registry(catalog, FilesystemStore(tmp_path / "data")), NAME, Tag(seed), image)
    return image


def pull(host: str, tag: str) -> bytes:
    """Return the manifest that Docker 20.10 gets; it asks again as its user would if that is cut off."""
    path = f"/v2/{NAME}/manifests/{tag}"
    while True:
        try:
            answer: Answer = Wire(host).send("HEAD", path, DOCKER)
            answer = Wire(host).send("GET", path, DOCKER)
        except (OSError, IncompleteRead):
            continue
        if answer.status == 200:
            return answer.body
        assert answer.status == 429
        time.sleep(0.05)


def require_gzip(host: str, image: builders.Image, manifest: bytes) -> None:
    """Require that a manifest names the layers of an image as gzip, which can be pulled."""
    made = json.loads(manifest)["layers"]
    for each, source in zip(made, image.layers, strict=True):
        layer = Wire(host).send("GET", f"/v2/{NAME}/blobs/{each['digest']}", DOCKER).body
        assert (str(Digest.of(layer)), len(layer)) == (each["digest"], each["size"])
        assert read_diff_id([layer]) == (read_diff_id([source], zstd=True)[0], Compression.GZIP)


def test_a_layer_is_transcoded_once(tmp_path: Path, catalog: Catalog, hosts: Sequence[str]) -> None:
    """By one process, for ten clients of all of them, who get the same manifest."""
    image, leases = push(tmp_path, catalog, "1"), Leases(catalog)
    with leases.looking(), ThreadPoolExecutor(10) as pool:
        pulls = [pool.submit(pull, hosts[number % 2], "1") for number in range(10)]
        (manifest,) = {each.result(120) for each in pulls}
    require_gzip(hosts[0], image, manifest)
    assert {len(each) for each in leases.seen.values()} == {1}


def test_a_process_that_is_killed(tmp_path: Path, catalog: Catalog, hosts: Sequence[str]) -> None:
    """Another one begins anew at once, and the clients of the others do not notice."""
    image, leases = push(tmp_path, catalog, "2"), Leases(catalog)
    large = Digest.of(image.layers[0])
    with ThreadPoolExecutor(4) as pool:
        pulls = [pool.submit(pull, hosts[number % 2], "2") for number in range(4)]
        assert until(lambda: leases.look() and large in leases.seen)
        (process,) = leases.seen[large].values()
        os.kill(int(process.split()[2]), signal.SIGKILL)
        with leases.looking():
            (manifest,) = {each.result(120) for each in pulls}
    require_gzip(hosts[1], image, manifest)
    assert len(leases.seen[large]) == 2
