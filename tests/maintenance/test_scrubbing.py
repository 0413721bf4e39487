"""Blobs are verified in the background: those that were sent, and those that were not verified for long."""

import json
import os
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from dualreg.assembly import build_registry, open_catalog
from dualreg.catalog import checks
from dualreg.catalog.checks import Stale
from dualreg.catalog.database import Catalog
from dualreg.catalog.leading import Duty, lead
from dualreg.catalog.tables import Blobs
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.scrubbing import AGE, SERVED_AGE, Scrubber
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.apps import client_of
from tests.conftest import Clock
from tests.programs import dualreg_process, until
from tests.properties.registries import push_v2
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire
from tests.registry.test_damage import flip, lose

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"a" * 900}), builders.layer({"b": b"b" * 900}))
FAST = 1 << 40


@pytest.mark.parametrize("accel", ["", "/_blobs/"])
@pytest.mark.parametrize("age", [SERVED_AGE - timedelta(hours=1), SERVED_AGE + timedelta(hours=1)])
def test_a_served_blob_that_is_wrong_is_taken_out_of_service(
    catalog: Catalog, clock: Clock, tmp_path: Path, accel: str, age: timedelta
) -> None:
    """If it was not verified lately; a push of the same bytes heals it."""
    store = FilesystemStore(tmp_path / "store")
    registry = build_registry(catalog, store)
    push_v2(registry, NAME, Tag("one"), IMAGE)
    layer, other = map(Digest.of, IMAGE.layers)
    for digest in (layer, other):
        flip(store.path(digest))
    clock.advance(age)
    client, url = client_of(registry, x_accel_prefix=accel), f"/v2/{NAME}/blobs/"
    assert client.get(f"{url}{layer}").status_code == 200
    Scrubber(catalog, registry.integrity, FAST).scrub_served()
    found = age > SERVED_AGE
    assert client.get(f"{url}{layer}").status_code == (404 if found else 200)
    assert client.head(f"{url}{other}").status_code == 200  # which was not sent
    assert client.get("/_status").json["damaged_blobs"] == int(found)
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    assert client.head(f"{url}{layer}").status_code == 200


def test_all_blobs_are_verified_in_time(catalog: Catalog, clock: Clock, tmp_path: Path) -> None:
    """By one process at a time; those that are sound are left alone for a while."""
    store = FilesystemStore(tmp_path / "store")
    registry = build_registry(catalog, store)
    push_v2(registry, NAME, Tag("one"), IMAGE)
    layer = Digest.of(IMAGE.layers[0])
    flip(store.path(layer))
    scrubber = Scrubber(catalog, registry.integrity, FAST)
    scrubber.scrub_stale()
    assert registry.integrity.damaged() == 0
    clock.advance(AGE + timedelta(hours=1))
    with lead(catalog, Duty.SCRUBBING):
        scrubber.scrub_stale()
    assert registry.integrity.damaged() == 0
    scrubber.scrub_stale()
    assert registry.integrity.damaged() == 1
    with catalog.read() as tx:
        assert [blob.digest for _, blob in tx.checks.stalest(Stale(catalog.now() - AGE), None)] == [layer]


def test_the_rate_is_kept(catalog: Catalog, clock: Clock, tmp_path: Path) -> None:
    """A scrubber that is stopped reads no more, and what it has not read is not taken to be sound."""
    store = FilesystemStore(tmp_path / "store")
    registry = build_registry(catalog, store)
    push_v2(registry, NAME, Tag("one"), IMAGE)
    clock.advance(AGE + timedelta(hours=1))
    scrubber, waits = Scrubber(catalog, registry.integrity, 100), list[float]()
    scrubber._stop.wait = lambda seconds: waits.append(seconds or 0) or False  # type: ignore[method-assign, func-returns-value]
    scrubber.scrub_stale()
    assert sum(waits) == pytest.approx(sum(each.size for each in store.walk()) / 100)
    scrubber.stop()
    clock.advance(AGE + timedelta(hours=1))
    scrubber.scrub_stale()
    with catalog.read() as tx:
        assert len(tx.checks.stalest(Stale(catalog.now() - AGE), None)) == 4


def test_damage_does_not_keep_other_blobs_from_being_verified(
    catalog: Catalog, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many blobs are damaged, and stay so."""
    monkeypatch.setattr(checks, "BATCH", 1)
    store = FilesystemStore(tmp_path / "store")
    registry = build_registry(catalog, store)
    push_v2(registry, NAME, Tag("one"), IMAGE)
    clock.advance(AGE + timedelta(hours=1))
    with catalog.read() as tx:
        ((_, first),) = tx.checks.stalest(Stale(catalog.now()), None)
    lose(store.path(first.digest))
    scrubber = Scrubber(catalog, registry.integrity, FAST)
    for _ in range(4):
        scrubber.scrub_stale()
    with catalog.read() as tx:
        assert tx.checks.total(Stale(catalog.now() - AGE)) == registry.integrity.damaged() == 1
    registry.uploads.ingest(NAME, [{**IMAGE.blobs, IMAGE.digest: IMAGE.manifest}[first.digest]])
    clock.advance(AGE + timedelta(hours=1))
    for _ in range(6):
        scrubber.scrub_stale()
    with catalog.read() as tx:
        assert tx.checks.total(Stale(catalog.now() - AGE)) == registry.integrity.damaged() == 0


def test_the_empty_layer_needs_no_file(catalog: Catalog, clock: Clock, tmp_path: Path) -> None:
    """It is served without one, so it is not damaged."""
    store = FilesystemStore(tmp_path / "store")
    registry = build_registry(catalog, store)
    lose(store.path(registry.uploads.ingest(NAME, [EMPTY_LAYER]).digest))
    clock.advance(AGE + timedelta(hours=1))
    Scrubber(catalog, registry.integrity, FAST).scrub_stale()
    assert registry.integrity.damaged() == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_a_server_verifies_what_it_holds(tmp_path: Path, workers: int) -> None:
    """A damaged blob is set aside, unknown to clients, and healed by a push; the rate is kept."""
    size, rate, layer = 3 << 20, 1 << 20, builders.layer({"a": os.urandom(3 << 20)})
    data, digest = tmp_path / "data", Digest.of(layer)
    settings = Settings(data=data, audit="off")
    path = FilesystemStore(data).path(digest)
    with dualreg_process(data, fsck_rate=rate, workers=workers, audit="off") as serving:
        client, wire, url = V2Client(serving.host), Wire(serving.host), f"/v2/{NAME}/blobs/{digest}"
        client.push(str(NAME), "one", builders.image(layer))
        flip(path)
        assert wire.send("HEAD", url).status == 200
        with closing(open_catalog(settings)) as catalog, catalog.engine.begin() as connection:
            connection.execute(update(Blobs).values(verified_at=catalog.now() - 2 * AGE))
        began = time.monotonic()
        assert until(lambda: wire.send("HEAD", url).status == 404, seconds=60)
        assert time.monotonic() - began >= size / rate
        assert [each.name for each in (data / "corrupt").iterdir()] == [f"sha256-{digest.hex}"]
        assert json.loads(wire.send("GET", "/_status").body)["damaged_blobs"] == 1
        client.push(str(NAME), "one", builders.image(layer))
        assert wire.send("GET", url).body == layer
        assert json.loads(wire.send("GET", "/_status").body)["damaged_blobs"] == 0
