"""Many old clients of two servers pull one tag of today at once, for the first time, on either database."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import ManifestViews
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.schema1 import KIND
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.properties.registries import push_v2
from tests.protocol.clients.generation import SCHEMA1_RELEASES
from tests.protocol.clients.libtrust import verified
from tests.protocol.clients.wire import Answer, Wire
from tests.races.site import at_once

pytestmark = pytest.mark.slow

NAME = RepositoryName("team/app")
LAYER = builders.layer({"f": b"1"})


def pull(host: str, reference: str, method: str = "GET") -> Answer:
    """Ask for a manifest as Docker 1.9."""
    path = f"/v2/{NAME}/manifests/{reference}"
    return Wire(host).send(method, path, {"User-Agent": SCHEMA1_RELEASES[-1].agent})


def test_the_first_pull_by_many(hosts: Sequence[str], catalog: Catalog, tmp_path: Path) -> None:
    """All are given one digest, which is there at once; from then on, all get the same bytes.

    Clients that delete the image meanwhile cause no failure, and leave nothing.
    """
    registry = build_registry(catalog, FilesystemStore(tmp_path / "data"))
    for number in range(6):
        image, tag = builders.image(LAYER, author=str(number)), f"t{number}"
        push_v2(registry, NAME, Tag(tag), image)
        methods = ("GET", "GET", "HEAD", "GET")
        first = at_once([partial(pull, host, tag, method) for host in hosts for method in methods])
        assert {each.status for each in first} == {200}
        (digest,) = {each.headers["docker-content-digest"] for each in first}
        bodies = {each.body for each in first if each.body}
        assert {str(Digest.of(verified(body))) for body in bodies} == {digest}
        (kept,) = {pull(host, each).body for host in hosts for each in (tag, digest)}
        assert str(Digest.of(verified(kept))) == digest  # signed for one of them, or for the HEAD
        assert {len(body) for body in bodies} == {int(each.headers["content-length"]) for each in first}
    with catalog.read() as tx:
        kinds = select(ManifestViews.view).where(ManifestViews.kind.startswith(KIND))
        assert len(tx.connection.scalars(kinds).all()) == 6
    push_v2(registry, NAME, Tag("gone"), image := builders.image(LAYER, author="gone"))
    path = f"/v2/{NAME}/manifests/{image.digest}"
    ended = at_once([*[partial(pull, hosts[0], "gone")] * 5, partial(Wire(hosts[1]).send, "DELETE", path)])
    assert {each.status for each in ended[:-1]} <= {200, 404}
    assert ended[-1].status == 202
    for each in ended[:-1]:
        if each.status == 200:
            assert pull(hosts[0], each.headers["docker-content-digest"]).status == 404
