"""Undelete: whatever was deleted is restored byte for byte within the grace; clients see nothing of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.copying import at_one_instant, copy_rows, open_copy, snapshot
from dualreg.catalog.retention import RetentionRule
from dualreg.catalog.rows import QuotaRow
from dualreg.catalog.webhooks import WebhookRow
from dualreg.errors import (
    BlobUnknown,
    DeletedForGood,
    ManifestUnknown,
    NotRestorable,
    QuotaExceeded,
    RepositoryUnknown,
    Unsigned,
)
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.gc import Collected, Collection
from dualreg.maintenance.retention import RetentionRun
from dualreg.patterns import EVERYWHERE
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from dualreg.registry.manifests import Manifests, Pushed
from dualreg.registry.outbox import Outbox
from dualreg.registry.state import Retention
from dualreg.registry.undelete import Undelete
from tests import builders
from tests.conftest import Clock
from tests.properties.registries import fresh_registry, push_v1, push_v2, read_blob
from tests.protocol.clients.schema1 import push_chain

NAME, TAG = RepositoryName("team/app"), Tag("1.0")
GRACE, UNTAGGED, UNDELETE = timedelta(hours=1), timedelta(hours=5), timedelta(days=3)
LAYERS = [builders.layer({"file": bytes(10**size)}) for size in range(4)]
SCHEMA2, OCI = builders.image(*LAYERS[:2]), builders.image(*LAYERS[1:3], oci=True)
CHAIN = builders.v1_chain(*LAYERS)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Iterator[Registry]:
    """A registry that keeps for days what was deleted, and everything else for an hour."""
    with fresh_registry(clock) as registry:
        yield with_times(registry, None)


def with_times(registry: Registry, untagged: timedelta | None, undelete: timedelta = UNDELETE) -> Registry:
    """Return the registry with other settings."""
    return registry.over(replace(registry.state, retention=Retention(GRACE, untagged, None, undelete)))


def collect(registry: Registry, clock: Clock, hours: int = 3, times: int = 6) -> Collected:
    """Collect garbage several times, until unused bytes must have gone; return the last result."""
    for _ in range(times):
        clock.advance(timedelta(hours=hours))
        found = Collection(registry).run()
    return found


def push_index(registry: Registry) -> None:
    """Push an index of two images, with a signature of one that has a signature itself."""
    for image in (SCHEMA2, OCI):
        push_v2(registry, NAME, Tag("image"), image)
    registry.manifests.put(NAME, TAG, media_types.OCI_INDEX, builders.index(SCHEMA2, OCI))
    registry.tags.delete(NAME, Tag("image"))
    subject, media_type = OCI.manifest, OCI.media_type
    for number in range(2):
        made = builders.artifact("application/vnd.example+json", b"{%d}" % number)
        document = json.loads(made.manifest) | {"subject": builders.descriptor(media_type, subject)}
        registry.uploads.ingest(NAME, [made.config])
        subject, media_type = json.dumps(document).encode(), made.media_type
        registry.manifests.put(NAME, Digest.of(subject), media_type, subject)


#: How the clients of each generation push.
PUSHES: Mapping[str, Callable[[Registry], object]] = {
    "v1": lambda registry: push_v1(registry, NAME, TAG, CHAIN),
    "schema 1": lambda registry: push_chain(registry, NAME, TAG, CHAIN),
    "schema 2": lambda registry: push_v2(registry, NAME, TAG, SCHEMA2),
    "oci": lambda registry: push_v2(registry, NAME, TAG, OCI),
    "index": push_index,
}


def delete_manifest(registry: Registry) -> None:
    """Delete by digest, as a client does."""
    row = registry.manifests.peek(NAME, TAG)
    assert row
    registry.manifests.delete(NAME, row.digest)


def retain(registry: Registry) -> None:
    """Have a retention rule delete the tag."""
    push_v2(registry, NAME, Tag("newer"), builders.image())
    registry.retention.add(RetentionRule(NAME, matching=("newer",)))
    assert RetentionRun(registry).run().deleted == 1


#: How it is deleted, and whether manifests without a tag are collected then.
DELETIONS: Mapping[str, tuple[Callable[[Registry], object], timedelta | None]] = {
    "manifest": (delete_manifest, None),
    "manifest, then gc": (delete_manifest, UNTAGGED),
    "tag": (lambda registry: registry.tags.delete(NAME, TAG), UNTAGGED),
    "V1 repository": (lambda registry: registry.tags.clear(NAME), UNTAGGED),
    "repository": (lambda registry: registry.repositories.delete(NAME), UNTAGGED),
    "retention": (retain, UNTAGGED),
    "moved": (lambda registry: push_v2(registry, NAME, TAG, builders.image(LAYERS[3])), UNTAGGED),
}


def content(registry: Registry) -> dict[str, object]:
    """Return all that clients see of the tag: manifests with their referrers, blobs, and V1 images."""
    row = registry.manifests.peek(NAME, TAG)
    assert row
    found, level = dict[str, object](), [row]
    while level:
        row = level.pop()
        signed = registry.manifests.signed(row)
        found[str(row.digest)] = row.media_type, registry.manifests.payload(row), signed
        for each in registry.manifests.reachable_blobs(NAME, row.digest):
            found[f"blob {each.digest}"] = read_blob(registry, NAME, each.digest)
            level += [child for child in registry.manifests.peek_all(NAME, [each.digest]) if child != row]
        level += registry.manifests.peek_all(
            NAME, [each.digest for each in registry.referrers.list(NAME, row.digest).rows]
        )
    if (image := registry.bridge.tags(NAME).get(TAG)) is not None:
        found["V1"] = [
            (each.id, each.parent, each.json, each.layer, each.checksum, each.tarsum)
            for each in registry.v1_images.ancestry(NAME, image)
        ]
    (tag,) = (each for each in registry.tags.describe(NAME, limit=9, reader=None).rows if each.name == TAG)
    return {**found, "origin": tag.origin}


@pytest.mark.slow
@pytest.mark.parametrize("deletion", DELETIONS)
@pytest.mark.parametrize("generation", PUSHES)
def test_what_was_deleted_is_restored(
    registry: Registry, clock: Clock, generation: str, deletion: str
) -> None:
    """Of each generation, after any deletion, although collections passed; and it goes later."""
    delete, untagged = DELETIONS[deletion]
    registry = with_times(registry, untagged)
    PUSHES[generation](registry)
    before, row = content(registry), registry.manifests.peek(NAME, TAG)
    assert row
    clock.advance(timedelta(minutes=1))
    delete(registry)
    kept = collect(registry, clock)
    assert registry.manifests.peek(NAME, row.digest) is None
    assert kept.kept > 0
    assert kept.kept_until
    assert timedelta(0) < kept.kept_until - clock() < UNDELETE
    planned = registry.history.restoration(NAME, TAG)
    assert planned.deleted
    registry.history.restore(planned)
    assert content(registry) == before
    assert (collect(registry, clock).kept == 0) == (deletion != "moved")  # what it was moved to is kept now
    assert content(registry) == before
    delete_manifest(registry)
    assert collect(registry, clock, hours=24, times=10).kept == 0
    with pytest.raises(ManifestUnknown):
        registry.history.restore(registry.history.restoration(NAME, TAG, to=row.digest))
    with registry.state.catalog.read() as tx:
        linked = {each.digest for each in tx.blobs.held(None, 99)}
    assert {each.digest for each in registry.state.store.walk()} == linked
    assert row.digest not in linked


@pytest.mark.slow
def test_a_repository_is_restored(registry: Registry, clock: Clock) -> None:
    """With its tags, untagged manifests and V1 images; a tag that was pushed again stays as it is."""
    push_index(registry)
    push_v1(registry, NAME, Tag("old"), CHAIN)
    push_v2(registry, NAME, Tag("twice"), SCHEMA2)
    before = {row.name: row for row in registry.tags.describe(NAME, limit=9, reader=None).rows}
    untagged = [
        OCI.digest,
        *(each.digest for each in registry.referrers.list(NAME, OCI.digest).rows),
    ]
    with pytest.raises(RepositoryUnknown):
        registry.history.repository_restoration(NAME)
    clock.advance(timedelta(minutes=1))
    registry.repositories.delete(NAME)
    collect(registry, clock)
    push_v2(registry, NAME, Tag("twice"), builders.image(LAYERS[3]))
    planned = [*registry.history.repository_restoration(NAME)]
    assert {each.tag for each in planned} == {TAG, "old"}
    found = registry.history.restore_repository(NAME)
    assert (found.tags, found.lost) == (2, [])
    assert registry.bridge.tags(NAME)[Tag("old")] == CHAIN[-1].id
    after = {row.name: row for row in registry.tags.describe(NAME, limit=9, reader=None).rows}
    assert {name: (row.digest, row.origin) for name, row in after.items() if name != "twice"} == {
        name: (row.digest, row.origin) for name, row in before.items() if name != "twice"
    }
    assert after["twice"].digest != before["twice"].digest
    assert len(registry.manifests.peek_all(NAME, untagged)) == len(untagged)
    assert registry.history.restorable(NAME) == (0, 0, ())


def test_editions_are_made_again(registry: Registry) -> None:
    """They are no images of their own then, unless clients had pushed them, too."""
    push_v2(registry, NAME, TAG, OCI)
    push_v2(registry, NAME, Tag("other"), SCHEMA2)
    row, other = (registry.manifests.find(NAME, tag) for tag in (TAG, Tag("other")))
    made = registry.editions.make(NAME, row, Edition.SCHEMA2)
    pushed = registry.editions.make(NAME, other, Edition.OCI)
    registry.manifests.put(NAME, Tag("made"), pushed.media_type, registry.manifests.payload(pushed))
    registry.repositories.delete(NAME)
    found = registry.history.restore_repository(NAME)
    assert (found.tags, found.manifests) == (3, 3)
    assert registry.manifests.peek(NAME, made.digest) is None
    assert registry.manifests.peek(NAME, pushed.digest)
    assert registry.editions.make(NAME, row, Edition.SCHEMA2).digest == made.digest
    registry.manifests.delete(NAME, OCI.digest)
    assert registry.manifests.peek(NAME, made.digest) is None


def test_clients_see_nothing_of_it(registry: Registry, clock: Clock) -> None:
    """A deleted manifest is unknown at once; its blobs are when they are unlinked, as always."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, SCHEMA2.digest)
    collect(registry, clock)
    for digest in (*SCHEMA2.blobs, SCHEMA2.digest):
        with pytest.raises(BlobUnknown):
            registry.blobs.stat(NAME, digest)
        with registry.state.catalog.read() as tx:
            assert tx.blobs.owner(digest, EVERYWHERE) is None
    total = registry.usage.total()
    size = sum(map(len, (SCHEMA2.manifest, *SCHEMA2.blobs.values())))
    assert (total.bytes, total.garbage, total.deleted) == (0, 0, size)


def test_what_is_pushed_again_is_simply_there(registry: Registry, clock: Clock) -> None:
    """It is kept by its tag from then on, and nothing is left of its deletion after the grace."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    collect(registry, clock)
    push_v2(registry, NAME, TAG, SCHEMA2)
    assert collect(registry, clock).kept == 0
    with pytest.raises(NotRestorable):
        registry.history.restoration(NAME, TAG)
    collect(registry, clock, hours=24)
    assert read_blob(registry, NAME, Digest.of(SCHEMA2.config)) == SCHEMA2.config


def other_manifests(registry: Registry, kind: type[Manifests]) -> Manifests:
    """Return another service of the manifests."""
    service = registry.manifests
    return kind(*(getattr(service, each.name) for each in fields(service)))


def undelete_with(registry: Registry, kind: type[Manifests]) -> Undelete:
    """Return what restores manifests by another service."""
    return replace(registry.undelete, manifests=other_manifests(registry, kind))


def test_signatures_are_restored_first(registry: Registry) -> None:
    """A tag that is refused is tried again after all others, of which one may be its signature."""
    signature = Tag("sha256-abc.sig")

    class Signed(Manifests):
        def retag(self, repository: RepositoryName, tag: Tag, *args: Any, **options: Any) -> None:
            if tag == TAG and not (is_signed and self.peek(repository, signature)):
                raise Unsigned(repository=repository, digest="sha256:abc", policy="all", reason="none")
            super().retag(repository, tag, *args, **options)

    for tag in (TAG, Tag("2.0"), signature):
        push_v2(registry, NAME, tag, SCHEMA2)
    registry.repositories.delete(NAME)
    history = replace(registry.history, manifests=other_manifests(registry, Signed))
    is_signed = False
    with pytest.raises(Unsigned):
        history.restore_repository(NAME)
    assert registry.manifests.peek(NAME, Tag("2.0"))
    registry.tags.delete(NAME, signature)
    is_signed = True
    planned = [*history.repository_restoration(NAME)]
    assert [each.tag for each in planned] == [TAG, signature]
    assert history.restore_repository(NAME).tags == 2


def test_a_repository_is_deleted_meanwhile(registry: Registry) -> None:
    """Nothing is restored without what it consists of; the next restoration does it."""

    class DeletedBefore(Manifests):
        def put(self, repository: RepositoryName, *args: Any, **options: Any) -> Pushed:
            registry.repositories.delete(repository)
            return super().put(repository, *args, **options)

    push_index(registry)
    registry.repositories.delete(NAME)
    digest = registry.history.restoration(NAME, TAG).new
    with pytest.raises(DeletedForGood):
        undelete_with(registry, DeletedBefore).manifest(NAME, digest)
    assert registry.manifests.peek(NAME, digest) is None
    registry.history.restore(registry.history.restoration(NAME, TAG))
    assert registry.manifests.peek(NAME, digest)


def test_what_lacked_children_is_restored(registry: Registry) -> None:
    """An index whose images are not all there."""
    push_v2(registry, NAME, Tag("image"), SCHEMA2)
    sparse = replace(registry.manifests, rules=ManifestRules(sparse_indexes=True))
    sparse.put(NAME, TAG, media_types.OCI_INDEX, builders.index(SCHEMA2, OCI))
    registry.repositories.delete(NAME)
    registry.history.restore(registry.history.restoration(NAME, TAG))
    row = registry.manifests.find(NAME, TAG)
    assert registry.manifests.payload(row) == builders.index(SCHEMA2, OCI)
    assert registry.manifests.peek(NAME, SCHEMA2.digest)


def test_what_is_deleted_again_meanwhile_can_be_restored(registry: Registry) -> None:
    """The restoration forgets what it has restored, and not what was deleted since."""

    class DeletedAfterwards(Manifests):
        def put(self, repository: RepositoryName, *args: Any, **options: Any) -> Pushed:
            pushed = super().put(repository, *args, **options)
            self.delete(repository, pushed.manifest.digest)
            return pushed

    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    assert undelete_with(registry, DeletedAfterwards).manifest(NAME, SCHEMA2.digest) == 1
    assert registry.manifests.peek(NAME, SCHEMA2.digest) is None
    registry.history.restore(registry.history.restoration(NAME, TAG))
    assert registry.manifests.peek(NAME, TAG)


def test_quotas(registry: Registry, clock: Clock) -> None:
    """What was deleted does not count. What does not fit any longer is not restored, and nothing of it."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    size = registry.usage.total().bytes
    registry.quotas.set(QuotaRow("team/*", size))
    registry.manifests.delete(NAME, SCHEMA2.digest)
    collect(registry, clock)
    (quota,) = registry.quotas.list()
    assert quota.used == 0
    registry.uploads.ingest(NAME, [b"x"])
    with pytest.raises(QuotaExceeded) as refused:
        registry.history.restore(registry.history.restoration(NAME, TAG))
    assert (refused.value.used, refused.value.needed, refused.value.limit) == (1, size, size)
    assert registry.usage.total().bytes == 1
    registry.quotas.set(QuotaRow("team/*", size + 1))
    registry.history.restore(registry.history.restoration(NAME, TAG))
    (quota,) = registry.quotas.list()
    assert quota.used == size + 1


def test_immutable_tags_are_restored(registry: Registry, clock: Clock) -> None:
    """A rule does not allow to delete them, but an operator can all the same."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.immutability.add("team/*:*")
    registry.repositories.delete(NAME, force=True)
    collect(registry, clock)
    registry.history.restore_repository(NAME)
    assert registry.manifests.find(NAME, TAG).digest == SCHEMA2.digest


def test_content_of_upstreams_is_not_kept(registry: Registry, clock: Clock) -> None:
    """The upstream has it still."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    with registry.state.catalog.begin() as tx:
        row = tx.repositories.find(NAME)
        assert row
        tx.repositories.record_upstream(row.id, "https://hub.example")
    registry.repositories.delete(NAME)
    assert collect(registry, clock).kept == 0
    assert [*registry.state.store.walk()] == []


def test_space_is_freed_at_once_if_that_is_wanted(registry: Registry, clock: Clock) -> None:
    """For one collection, or for all; a dry run says so, and changes nothing."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    assert collect(registry, clock).kept == 4
    assert Collection(registry, dry_run=True).run().blobs == 0
    planned = Collection(registry, dry_run=True, undelete=False).run()
    assert (planned.blobs, planned.kept) == (4, 0)
    assert registry.history.restoration(NAME, TAG).deleted
    assert Collection(registry, undelete=False).run().blobs == 4
    assert not registry.history.restoration(NAME, TAG).deleted
    hasty = with_times(registry, None, timedelta())
    push_v2(hasty, NAME, TAG, SCHEMA2)
    hasty.manifests.delete(NAME, SCHEMA2.digest)
    assert not hasty.history.restoration(NAME, TAG).deleted
    collect(hasty, clock)
    assert [*hasty.state.store.walk()] == []


def test_bytes_that_another_store_does_not_have(registry: Registry, clock: Clock) -> None:
    """A store to which the registry has moved has only what is linked: nothing of the image is restored."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    collect(registry, clock)
    registry.state.store.delete(Digest.of(SCHEMA2.config))
    with pytest.raises(DeletedForGood):
        registry.history.restore(registry.history.restoration(NAME, TAG))
    assert registry.usage.total().bytes == 0


def test_lost_bytes(registry: Registry, clock: Clock) -> None:
    """An older server deletes what it does not know to be kept: then nothing is restored."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    collect(registry, clock)
    with registry.state.deleting() as (tx, remove):
        (gone,) = tx.blobs.release(Digest.of(SCHEMA2.config))
        remove(gone)
    with pytest.raises(DeletedForGood, match="push it again"):
        registry.history.restore(registry.history.restoration(NAME, TAG))
    assert registry.usage.total().bytes == 0


def test_forget(registry: Registry, clock: Clock) -> None:
    """What only that tag pointed at cannot be restored any longer; what another one pointed at can."""
    for tag, image in (("1", SCHEMA2), ("2", OCI), ("3", OCI)):
        push_v2(registry, NAME, Tag(tag), image)
    registry.repositories.delete(NAME)
    assert registry.history.forget(NAME, Tag("2")) == (2, 0)
    assert registry.history.forget(NAME, Tag("1")) == (2, 1)
    assert registry.history.page(NAME, Tag("1"), limit=9).rows == []
    with pytest.raises(NotRestorable):
        registry.history.restoration(NAME, Tag("1"))
    registry.history.restore(registry.history.restoration(NAME, Tag("3")))
    registry.repositories.delete(NAME)
    forgotten = registry.history.forget(NAME)
    assert forgotten.manifests == 1
    with pytest.raises(RepositoryUnknown):
        registry.history.repository_restoration(NAME)
    collect(registry, clock)
    assert [*registry.state.store.walk()] == []


def test_forget_takes_nothing_from_webhooks(registry: Registry) -> None:
    """They get what happened before it was forgotten; in a copy, too, numbers of moves are not used again."""
    registry.webhooks.add(WebhookRow("all", "http://a", "docker", ("*",), ("push", "delete")))
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.repositories.delete(NAME)
    assert registry.history.forget(NAME).moves == 2
    ids = [each.event.id for each in registry.webhooks.events("all")]
    assert len(ids) == 2
    with fresh_registry() as copy, at_one_instant(registry.state.catalog) as rows:
        assert copy_rows(rows, copy.state.catalog)
        push_v2(copy, NAME, TAG, SCHEMA2)
        Outbox(copy.state.catalog).catch_up()
        assert [each.event.id for each in copy.webhooks.events("all")] == [*ids, ids[-1] + 1]


def test_forget_takes_what_belongs_to_an_image(registry: Registry, clock: Clock) -> None:
    """The images of an index, and what is attached to them."""
    push_index(registry)
    registry.repositories.delete(NAME)
    registry.history.forget(NAME, Tag("image"))
    assert registry.history.forget(NAME, TAG).manifests == 5
    collect(registry, clock)
    assert [*registry.state.store.walk()] == []


def test_forget_takes_v1_images_that_no_other_needs(registry: Registry, clock: Clock) -> None:
    """Those of another deleted tag stay, with what they build on."""
    other = builders.v1_chain(LAYERS[0], LAYERS[3], seed="other")
    for tag, chain in (("1", CHAIN[:3]), ("2", other)):
        push_v1(registry, NAME, Tag(tag), chain)
    registry.repositories.delete(NAME)
    assert registry.history.forget(NAME, Tag("2")).manifests == 1
    collect(registry, clock)
    stored = {each.digest for each in registry.state.store.walk()}
    assert {Digest.of(each.layer) in stored for each in CHAIN[:3]} == {True}
    assert Digest.of(LAYERS[3]) not in stored
    registry.history.restore(registry.history.restoration(NAME, Tag("1")))
    assert registry.bridge.tags(NAME)[Tag("1")] == CHAIN[2].id


def test_backups_are_without_it(registry: Registry, clock: Clock, tmp_path: Path) -> None:
    """They have no bytes that no repository has."""
    push_v2(registry, NAME, TAG, SCHEMA2)
    registry.manifests.delete(NAME, SCHEMA2.digest)
    collect(registry, clock)
    snapshot(registry.state.catalog, tmp_path / "copy")
    with closing(open_copy(tmp_path / "copy")) as catalog:
        copy = build_registry(catalog, registry.state.store)
        assert not copy.history.restoration(NAME, TAG).deleted
        assert copy.usage.total() == (0, 0, 0, 0)
