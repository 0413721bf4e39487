"""The clock is set forward or back: what is being written goes on, and nothing stays locked for long."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from dualreg.auth.attempts import WINDOW, Attempts, Limits
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import Lease
from dualreg.errors import TooManyAttempts, UploadBusy
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.leases import LEASE
from tests import builders
from tests.conftest import Clock
from tests.properties.registries import push_v1

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"1"}))
JUMPS = [timedelta(days=400), timedelta(days=-400)]


@pytest.mark.parametrize("jump", JUMPS)
def test_a_writer_goes_on(registry: Registry, clock: Clock, jump: timedelta) -> None:
    """An upload that is being written when the clock jumps, there and back, is finished."""
    upload = registry.uploads.start(NAME).id

    def body() -> Iterator[bytes]:
        for step in (timedelta(0), jump, -jump):
            clock.advance(step)
            yield b"piece"

    assert registry.uploads.append(NAME, upload, body()).offset == 15
    digest = Digest.of(b"piece" * 3 + b"end")
    assert registry.uploads.finish(NAME, upload, digest, [b"end"]).size == 18


@pytest.mark.parametrize("jump", [timedelta(hours=12), timedelta(hours=-12)])
def test_a_lease_does_not_last(registry: Registry, catalog: Catalog, clock: Clock, jump: timedelta) -> None:
    """That of a process elsewhere, which may have died, runs out after such a jump; the bytes stay."""
    upload = registry.uploads.start(NAME).id
    registry.uploads.append(NAME, upload, [b"held"])
    with catalog.begin() as tx:
        assert tx.uploads.lease(NAME, upload, Lease("other", "boot namespace 1 1"), duration=LEASE)
    with pytest.raises(UploadBusy):
        registry.uploads.append(NAME, upload, [b"more"])
    clock.advance(jump)
    assert registry.uploads.append(NAME, upload, [b"more"]).offset == 8


@pytest.mark.parametrize("jump", JUMPS)
def test_a_v1_image_is_not_held(registry: Registry, clock: Clock, jump: timedelta) -> None:
    """Another client may begin an image that one had begun before the clock was set back, or forward."""
    (first,) = builders.v1_chain(builders.layer({"a": b"1"}))
    other = replace(first, json=first.json.replace(b"{", b'{"comment": "other", ', 1))
    registry.v1_images.begin(NAME, first.id, first.json)
    with pytest.raises(UploadBusy):
        registry.v1_images.begin(NAME, other.id, other.json)
    clock.advance(jump)
    push_v1(registry, NAME, Tag("latest"), [other])
    assert registry.bridge.resolve(NAME, Tag("latest")) == other.id


@pytest.mark.parametrize("jump", JUMPS)
def test_nobody_is_locked_out(catalog: Catalog, clock: Clock, jump: timedelta) -> None:
    """Logins that failed before the clock was set back, or forward, do not count for longer than usual."""
    attempts = Attempts(catalog, Limits(pair=2))
    for number in range(2):
        attempts.failed("alice", "192.0.2.1", f"{number}")
    with pytest.raises(TooManyAttempts):
        attempts.check("alice", "192.0.2.1")
    clock.advance(jump)
    assert attempts.check("alice", "192.0.2.1") in (True, False)
    for number in range(2):
        attempts.failed("alice", "192.0.2.1", f"{number} again")
    with pytest.raises(TooManyAttempts) as caught:
        attempts.check("alice", "192.0.2.1")
    assert caught.value.retry_after <= WINDOW.total_seconds()
