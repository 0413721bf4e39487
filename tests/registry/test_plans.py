"""Query plans: no request reads a table from end to end, or sorts what an index has in order."""

import os
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, insert

from dualreg.assembly import build_registry
from dualreg.catalog import name_parts
from dualreg.catalog import usage as usage_queries_module
from dualreg.catalog.checks import Stale
from dualreg.catalog.database import Catalog
from dualreg.catalog.orders import TagOrder, TagPlace
from dualreg.catalog.outbox import Backlog, EventPlace
from dualreg.catalog.retention import RetentionRule
from dualreg.catalog.rows import ORIGINS
from dualreg.catalog.tables import (
    Blobs,
    Manifests,
    Repositories,
    RepositoryBlobs,
    TagHistory,
    Tags,
    V1Images,
    WebhookEvents,
    WebhookQueues,
)
from dualreg.catalog.upgrade import upgrade
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.maintenance.gc import Collection
from dualreg.maintenance.retention import Retained, RetentionRun
from dualreg.patterns import Reach
from dualreg.registry import Registry
from dualreg.registry import tags as tags_module
from dualreg.registry import usage as usage_module
from dualreg.registry import webhooks as webhooks_module
from dualreg.registry.outbox import Outbox
from dualreg.registry.state import Retention
from dualreg.storage.base import StoredBlob
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.apps import client_of
from tests.contracts.postgresql import migrated_postgresql
from tests.properties.registries import push_v1, push_v2
from tests.protocol.exchange import TOKEN, World, make_world
from tests.soak import short_or_long

ABSENT = f"sha256:{'0' * 64}"
TYPE = "application/vnd.example.signature+json"


class Full(MemoryStore):
    """A store that has every blob which ``fill`` records."""

    def stat(self, digest: Digest) -> StoredBlob:
        """Return the size that each is recorded with."""
        return StoredBlob(digest, 2, EPOCH)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalog, World]]:
    """A catalog, and a registry over it with a little of everything; plans do not depend on what is there."""
    catalog = Catalog(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'catalog.sqlite3'}")
    upgrade(catalog)
    yield catalog, make_world(client_of(build_registry(catalog, MemoryStore())))
    catalog.close()


@pytest.fixture
def issued(world: tuple[Catalog, World]) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is executed, with its parameters."""
    catalog, _ = world
    seen: list[tuple[str, Any]] = []

    def note(*event_: Any) -> None:
        statement, parameters, many = event_[2], event_[3], event_[5]
        if not statement.startswith(("BEGIN", "EXPLAIN")):
            seen.append((statement, parameters[0] if many else parameters))

    event.listen(catalog.engine, "before_cursor_execute", note)
    yield seen
    event.remove(catalog.engine, "before_cursor_execute", note)


def test_what_was_made_of_a_manifest_is_found_by_its_digest(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]]
) -> None:
    """Not among all views of the repository, of which each manifest has some."""
    catalog, digest = world[0], Digest.of(b"made")
    with catalog.read() as tx:
        tx.views.sources(1, digest)
        tx.uses.vouching(1, [digest], 20)
        assert list(tx.uses.above(1, [str(digest)])) == []
    steps = [step for each in issued for step in plan(catalog, *each) if "manifest_views" in step]
    assert sum(step.endswith("(repository_id=? AND kind=? AND view=?)") for step in steps) == 3
    # Others look for the kinds of views that there are.
    ends = {"repository_id=?)", "repository_id=? AND kind>?)", "repository_id=? AND kind=? AND view=?)"}
    assert {step.partition("(")[2] for step in steps} == ends


def test_what_names_a_manifest_or_blob_is_found_by_its_digest(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]]
) -> None:
    """Not among all that the manifests of the repository name."""
    catalog, digest = world[0], Digest.of(b"named")
    with catalog.read() as tx:
        assert not tx.manifests.parents(1, digest)
        assert not tx.blobs.referrers(1, digest)
        assert not tx.tags.leading_to(1, [str(digest)])
        assert not [*tx.uses.above(1, [str(digest)])]
    steps = [step for each in issued for step in plan(catalog, *each) if "manifest_children" in step]
    assert [step.partition("(")[2] for step in steps] == ["repository_id=? AND child=?)"] * 4


def test_exports_search_indexes(world: tuple[Catalog, World], issued: list[tuple[str, Any]]) -> None:
    """What many tags need is found by their names, and by the digests of their manifests."""
    catalog, repository = world[0], RepositoryName("t/one")
    with catalog.read() as tx:
        tx.manifests.tagged(repository, [Tag("one"), Tag("two")])
        tx.referrers.among(repository, [Digest.of(b"a"), Digest.of(b"b")], 10)
        tx.views.seen(repository, [Tag("one"), Tag("two")], origins=ORIGINS)
        tx.views.parents(1, [ImageId("a" * 64), ImageId("b" * 64)], 10)
    tags, referrers, seen, parents = (plan(catalog, *each) for each in issued)
    assert any(step.endswith("(repository_id=? AND name=?)") for step in tags)
    assert any("ix_manifests_subject (repository_id=? AND subject=?)" in step for step in referrers)
    assert not [step for step in (*tags, *referrers) if "SCAN" in step or "TEMP" in step]
    assert any(step.endswith("(repository_id=? AND name=?)") for step in seen)
    assert any(step.endswith("(repository_id=? AND manifest=? AND kind=?) LEFT-JOIN") for step in seen)
    assert [
        step for step in parents if "v1_images" in step and "(repository_id=? AND image_id=?)" not in step
    ] == []


def test_repositories_with_tags_are_listed_by_the_smallest_indexes(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]]
) -> None:
    """Each look reads a page of its own in a large catalog; the others follow only where there is no tag."""
    catalog, _ = world
    with catalog.read() as tx:
        assert [*tx.repositories.walk(last="", limit=1)]
    steps = [step for each in issued for step in plan(catalog, *each)]
    looks = [step for step in steps if "repository_id=?" in step]
    assert [step.split()[1] for step in looks] == ["tags", "manifests", "v1_images"]
    assert "COVERING INDEX sqlite_autoindex_tags_1 (" in looks[0]
    assert all("coalesce(" in statement for statement, _ in issued)


def test_blobs_are_verified_in_the_order_of_an_index(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]]
) -> None:
    """Of those that are not damaged, as hardly any is, neither the first nor the next ones are sorted."""
    with world[0].read() as tx:
        tx.checks.all_verified_since()
        for after in (None, (EPOCH, Digest.of(b""))):
            tx.checks.stalest(Stale(EPOCH, damaged=False), after)
    first, *others = (plan(world[0], *each) for each in issued)
    assert first == ["SCAN blobs USING INDEX ix_blobs_verified_at"]
    for steps in others:
        assert steps[0].startswith("SEARCH blobs USING INDEX ix_blobs_verified_at (verified_at")
        assert steps[1:] == ["USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"]


def plan(catalog: Catalog, statement: str, parameters: Any) -> list[str]:
    """Return what SQLite would do for the statement, step by step."""
    with catalog.engine.connect() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    return [str(step[-1]) for step in steps]


@pytest.mark.parametrize(
    "request_",
    [
        "GET {repo}/tags/list",
        "GET {repo}/tags/list?n=2&last=a",
        "GET {repo}/tags/list?n=1&last=zzz",
        "GET /v2/_catalog",
        "GET /v2/_catalog?n=2&last=a",
        "GET {repo}/_dualreg/tags",
        "GET {repo}/_dualreg/tags?prefix=o",
        "GET {repo}/_dualreg/tags?prefix=o&after=1-oa&n=1",
        "GET {repo}/_dualreg/tags?sort=-pushed",
        "GET {repo}/_dualreg/tags?sort=-pushed&after=1767225600000000-one&n=1",
        "GET {repo}/_dualreg/tags?sort=-pushed&prefix=o",
        "GET {repo}/_dualreg/tags?sort=-pushed&prefix=o&after=1767225600000000-one&n=1",
        "GET {repo}/_oci/tag-history/one",
        "GET {repo}/_oci/tag-history/one?after=1767225600000000-1&n=1",
        "GET {repo}/_oci/tag-history/one?before=2026-01-02T00:00:00Z&since=2026-01-01T00:00:00Z&n=1",
        "GET {repo}/_oci/tag-history/one?digest={image}",
        "GET {repo}/referrers/{image}",
        f"GET {{repo}}/referrers/{{image}}?after=1-{ABSENT}",
        f"GET {{repo}}/referrers/{{image}}?artifactType={TYPE}",
        f"GET {{repo}}/referrers/{{image}}?artifactType={TYPE}&after=1-{ABSENT}",
        "GET {repo}/blobs/{layer}",
        "HEAD {repo}/blobs/{layer}",
        f"GET {{repo}}/blobs/{ABSENT}",
        "GET {repo}/manifests/one",
        "GET {repo}/manifests/{image}",
        "GET {repo}/manifests/unknown",
        "POST {repo}/blobs/uploads/?mount={layer}",
        "POST {repo}/blobs/uploads/?mount={layer}&from=t/other",
        "GET {upload}",
        "DELETE {repo}/blobs/{layer}",
        "DELETE {repo}/manifests/one",
        "DELETE {repo}/manifests/{image}",
    ],
)
def test_requests_search_indexes(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]], request_: str
) -> None:
    """Every statement of the request finds its rows through indexes, in the order that it wants them."""
    catalog, (method, path) = world[0], request_.split(" ")
    assert world[1].client.open(world[1].fill(path), method=method, headers=TOKEN).status_code < 500
    statements = [*issued]
    assert statements
    for statement, parameters in statements:
        steps = plan(catalog, statement, parameters)
        # Parameters alone are a "constant row".
        slow = [each for each in steps if each.startswith("SCAN") or "B-TREE FOR ORDER" in each]
        assert {*slow} <= {"SCAN CONSTANT ROW"}, f"{statement}\n{steps}"


@pytest.mark.parametrize("repository", ["", "t/other"], ids=["any repository", "a push elsewhere"])
@pytest.mark.parametrize("part", ["json", "layer", "ancestry"])
def test_v1_images_are_found_by_indexes(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]], repository: str, part: str
) -> None:
    """Also in a repository that the request does not name, which is looked for, or takes the image over."""
    catalog, pushed = world
    headers = {"Authorization": f'Token repository="{repository}"'} if repository else {}
    if repository:
        pushed.client.get(f"/v1/images/{pushed.chain[-1].id}/json", headers=headers)
    path = f"/v1/images/{pushed.chain[-1].id}/{part}"
    assert pushed.client.get(path, headers=headers).status_code == 200
    assert issued
    for statement, parameters in issued:
        slow = [
            step for step in plan(catalog, statement, parameters) if re.match("SCAN (?!chain|CONST)", step)
        ]
        assert slow == [], statement


def test_moves_of_tags_search_indexes(world: tuple[Catalog, World], issued: list[tuple[str, Any]]) -> None:
    """Those of a push, and all that a command asks to restore a tag, however long its history is."""
    registry, name, tag = build_registry(world[0], MemoryStore()), RepositoryName("team/moved"), Tag("1")
    first, second = (builders.image(builders.layer({"a": seed})) for seed in (b"1", b"2"))
    push_v2(registry, name, tag, first)
    push_v2(registry, name, tag, second)
    registry.history.restore(registry.history.restoration(name, tag))
    registry.history.restoration(name, tag, at=registry.now() + timedelta(days=1), to=second.digest)
    registry.tags.delete(name, tag)
    assert any(statement.startswith("INSERT INTO tag_history") for statement, _ in issued)
    for statement, parameters in issued:
        steps = plan(world[0], statement, parameters)
        slow = [each for each in steps if re.match("SCAN (?!CONST)", each) or "B-TREE FOR ORDER" in each]
        assert slow == [], f"{statement}\n{steps}"


@pytest.mark.parametrize("order", [order for order in TagOrder if order.key in ("name", "pushed")])
@pytest.mark.parametrize("prefix", ["", "o"])
def test_tags_in_order_search_indexes(
    world: tuple[Catalog, World],
    issued: list[tuple[str, Any]],
    order: TagOrder,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By name and by push, in both directions, from any place on, without sorting; so do their details."""
    monkeypatch.setattr(tags_module, "_FEW", 0)
    monkeypatch.setattr(tags_module, "_SCAN", 1)
    registry, name = build_registry(world[0], MemoryStore()), RepositoryName("team/ordered")
    push_v2(registry, name, Tag("one"), builders.image(builders.layer({"a": b"1"})))
    for after in (None, TagPlace(10**16 if order.is_descending else 10**15, "oa")):
        page, _ = registry.tags.ordered(name, order, prefix=prefix, after=after, limit=9)
    if prefix and order.key == "pushed":  # what comes after a place is not looked at
        both = "(updated_at,name)>(?,?) AND (updated_at,name)<(?,?)"
        assert any(both in step for each in issued for step in plan(world[0], *each))
    registry.tag_details.of(name, page.rows)
    queries = [each for each in issued if each[0].startswith(("SELECT", "WITH"))]
    for statement, parameters in queries:
        steps = plan(world[0], statement, parameters)
        slow = [
            each for each in steps if re.match("SCAN (?!CONST|anon|\\()", each) or "B-TREE FOR ORDER" in each
        ]
        assert slow == [], f"{statement}\n{steps}"


def test_deleted_repositories_are_read_in_pages(
    world: tuple[Catalog, World], issued: list[tuple[str, Any]]
) -> None:
    """Of 500 tags, each by one statement through indexes, in the order that it wants them."""
    registry, name = build_registry(world[0], MemoryStore()), RepositoryName("team/deleted")
    image, tags = builders.image(builders.layer({"a": b"a"})), [Tag(f"t{n}") for n in range(501)]
    push_v2(registry, name, tags[0], image)
    registry.manifests.put(name, tags[0], image.media_type, image.manifest, tags=tags[1:])
    registry.repositories.delete(name)
    issued.clear()
    planned = [*registry.history.repository_restoration(name)]
    assert [each.tag for each in planned] == sorted(tags)
    assert len(issued) == 3
    assert registry.history.restorable(name) == (len(tags), 1, ())
    assert registry.history.forgettable(name) == (2 * len(tags), 1)
    for statement, parameters in issued:
        steps = plan(world[0], statement, parameters)
        slow = [each for each in steps if re.match("SCAN (?!CONST)", each) or "B-TREE FOR ORDER" in each]
        assert slow == [], f"{statement}\n{steps}"


def test_a_collection_searches_indexes(world: tuple[Catalog, World], issued: list[tuple[str, Any]]) -> None:
    """What it costs depends on the garbage, not on how much is alive."""
    catalog, pushed = world
    registry = build_registry(catalog, MemoryStore())
    push_v1(registry, NAME, Tag("v1"), builders.v1_chain(builders.layer({"a": b"a"})))
    for seed in ("one", "other"):
        push_v2(registry, NAME, Tag("v2"), builders.image(builders.layer({"b": seed.encode()})))
    registry.uploads.ingest(NAME, [b"unused"])
    manifest = registry.manifests.find(NAME, Tag("v1"))
    assert pushed.client.delete(f"/v2/{NAME}/manifests/{manifest.digest}").status_code == 202
    issued.clear()
    hasty = registry.over(replace(registry.state, retention=Retention(timedelta(0), timedelta(0))))
    results = [Collection(hasty).run() for _ in range(3)]
    released = [sum(each) for each in zip(*(each.repositories[NAME] for each in results[:2]), strict=True)]
    assert min(released) > 0
    assert sum(each.blobs for each in results) > 0
    for statement, parameters in issued:
        slow = [
            step
            for step in plan(catalog, statement, parameters)
            if re.match("SCAN (?!chain|kept|CONST)", step)
        ]
        assert slow == [], statement


def test_retention_searches_indexes(world: tuple[Catalog, World], issued: list[tuple[str, Any]]) -> None:
    """Its cost depends on the tags that rules are for, and on the number of repositories."""
    catalog, _ = world
    registry, name = build_registry(catalog, MemoryStore()), RepositoryName("team/retained")
    for tag in ("one", "two", f"sha256-{ABSENT.removeprefix('sha256:')}"):
        push_v2(registry, name, Tag(tag), builders.image(builders.layer({"a": b"a"})))
    registry.retention.add(RetentionRule(name, newest=1))
    issued.clear()
    assert RetentionRun(registry).run().deleted == 2
    statements = [*issued]
    registry.retention.remove(name, "*")
    assert any(statement.startswith("DELETE") for statement, _ in statements)
    for statement, parameters in statements:
        steps = plan(catalog, statement, parameters)
        assert [step for step in steps if re.match("SCAN (?!CONST|retention_rules)", step)] == [], statement


NAME = RepositoryName("team/garbage")
MANIFEST = Digest.of(b"{}")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def filled(folder: Path, *, tags: int, repositories: int) -> Catalog:
    """Return a catalog with that many tags in ``many/tags``, and so many other repositories of one image."""
    catalog = Catalog(f"sqlite:///{folder / f'{tags}-{repositories}.sqlite3'}")
    upgrade(catalog)
    fill(catalog, tags=tags, repositories=repositories)
    return catalog


def fill(catalog: Catalog, *, tags: int, repositories: int) -> None:
    """Give ``many/tags`` that many tags and as many referrers of one subject, and make the repositories.

    As many again hold no image.
    """
    ids = range(1, repositories + 2)
    blob = {"size": 2, "created_at": EPOCH, "verified_at": EPOCH}
    manifest = {"media_type": media_types.OCI_INDEX, "artifact_type": TYPE, "annotations": {}}
    referrers = [Digest("sha256", f"{number + 1:064x}") for number in range(tags)]
    empty = ({"id": id_ + ids[-1], "name": f"void/{id_:07}", "created_at": EPOCH} for id_ in ids)
    rows: dict[Any, list[dict[str, Any]]] = {
        Blobs: [{"digest": digest, **blob} for digest in (MANIFEST, *referrers)],
        Repositories: [
            {"id": id_, "name": f"team/{id_:07}" if id_ > 1 else "many/tags", "created_at": EPOCH}
            for id_ in ids
        ]
        + [*empty],
        RepositoryBlobs: [{"repository_id": id_, "digest": MANIFEST, "linked_at": EPOCH} for id_ in ids]
        + [{"repository_id": 1, "digest": digest, "linked_at": EPOCH} for digest in referrers],
        Manifests: [
            {"repository_id": id_, "digest": MANIFEST, "subject": None, "pushed_at": EPOCH, **manifest}
            for id_ in ids
        ]
        + [
            {
                "repository_id": 1,
                "digest": digest,
                "subject": MANIFEST,
                "pushed_at": EPOCH + timedelta(seconds=number),
                **manifest,
            }
            for number, digest in enumerate(referrers)
        ],
        V1Images: [
            {"repository_id": id_, "image_id": f"{id_:064x}", "json": MANIFEST, "complete": True}
            for id_ in ids
        ],
        TagHistory: [
            {
                "repository": "many/tags",
                "tag": "moved",
                "at": EPOCH + timedelta(seconds=number),
                "actor": "",
                "api": "v2",
                "new": digest,
                "origin": "v2",
                "media_type": manifest["media_type"],
                "size": 2,
            }
            for number, digest in enumerate(referrers)
        ],
        Tags: [
            {
                "repository_id": 1,
                "name": f"tag-{number:07}",
                "manifest": MANIFEST,
                "updated_at": EPOCH + timedelta(seconds=number),
            }
            for number in range(tags)
        ],
    }
    with catalog.engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)


def _later(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


def pages_of(tags: int, repositories: int) -> list[str]:
    """Return requests for pages in the middle of every list."""
    middle, place = tags // 2, int(EPOCH.timestamp()) + tags // 2
    tag, instant = f"tag-{middle:07}", f"{place}000000"
    after = f"after={instant}-sha256:{middle:064x}"
    return [
        f"GET /v2/many/tags/tags/list?n=100&last={tag}",
        f"GET /v2/_catalog?n=100&last=team/{repositories // 2:07}",
        f"GET /v2/many/tags/_dualreg/tags?n=100&after=1-{tag}",
        f"GET /v2/many/tags/_dualreg/tags?n=100&prefix=tag-&after=1-{tag}",
        f"GET /v2/many/tags/_dualreg/tags?n=100&sort=-pushed&after={instant}-{tag}",
        f"GET /v2/many/tags/_dualreg/tags?n=100&sort=-pushed&prefix=tag-&after={instant}-{tag}",
        f"GET /v2/many/tags/referrers/{MANIFEST}?{after}",
        f"GET /v2/many/tags/referrers/{MANIFEST}?artifactType={quote(TYPE)}&{after}",
        f"GET /v2/many/tags/_oci/tag-history/moved?n=100&after={instant}-{middle}",
        f"GET /v2/many/tags/_oci/tag-history/moved?n=100&before={quote(_later(middle))}",
        f"HEAD /v2/many/tags/manifests/{tag}",
    ]


class Work:
    """What requests take, in steps: those of SQLite's machine, and calls of functions in Python.

    Other than time, it does not depend on what else the machine does.
    """

    def __init__(self, catalog: Catalog) -> None:
        """Count what is done over connections of *catalog*, in this thread."""
        self._steps = 0
        event.listen(catalog.engine, "checkout", self._watch)
        catalog.close()  # what it keeps open is not checked out again

    def of(self, client: FlaskClient, method: str, path: str) -> int:
        """Return the steps that the request takes when it is repeated."""
        return self.of_call(lambda: client.open(path, method=method))

    def of_call(self, call: Callable[[], object]) -> int:
        """Return the steps that a call takes when it is repeated."""
        call()
        self._steps = 0
        sys.setprofile(self._count)
        try:
            call()
        finally:
            sys.setprofile(None)
        return self._steps

    def _watch(self, connection: Any, *_: object) -> None:
        connection.set_progress_handler(self._count, 1)

    def _count(self, *_: object) -> None:
        self._steps += 1


#: Tags, and repositories, of the large catalog; a million of each takes minutes and gigabytes.
LARGE = int(os.environ.get("LARGE_CATALOG", short_or_long("12000", "300000")))


def test_webhooks_cost_the_same_whatever_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their list counts up to a limit; pages of events, and the next ones to send, come from an index."""
    monkeypatch.setattr(webhooks_module, "COUNTED", 100)
    costs = []
    for size in (300, 6_000):
        catalog = Catalog(f"sqlite:///{tmp_path / f'{size}.sqlite3'}")
        with closing(catalog):
            upgrade(catalog)
            wait_for_webhook(catalog, size)
            webhooks, work = webhooks_module.Webhooks(catalog), Work(catalog)
            (listed,) = webhooks.list()
            assert (listed.waiting, listed.backlog) == (100, Backlog(100, 100, 100, EPOCH))
            waits, dead = EventPlace(None, size // 2), EventPlace(EPOCH + timedelta(seconds=size), size + 9)
            calls = (
                webhooks.list,
                partial(webhooks.events, "a", after=waits, limit=50),
                partial(webhooks.events, "a", dead=True, after=dead, limit=50),
                partial(Outbox(catalog).pending, "a", RepositoryName("x"), 50),
                partial(Outbox(catalog).due, "a", (), 4),
            )
            assert [len(call()) for call in calls] == [1, 50, 50, 50, 1]
            costs.append([work.of_call(call) for call in calls])
    for small, large in zip(*costs, strict=True):
        assert 0 < large < 1.05 * small


def wait_for_webhook(catalog: Catalog, size: int) -> None:
    """Have so many events wait for a webhook, as many be given up, and as many moves not be looked at."""
    move: dict[str, Any] = {"repository": "x", "tag": "t", "actor": "", "api": "v2", "origin": "v2"}
    move |= {"media_type": "", "size": 2, "at": EPOCH}
    ids = range(1, size + 1)
    events = [move | {"webhook": "a", "id": id_, "queued_at": EPOCH} for id_ in ids]
    dead = [each | {"id": each["id"] + size, "dead_at": EPOCH + timedelta(seconds=size)} for each in events]
    with catalog.begin() as tx:
        tx.webhooks.add(WebhookRow("a", "http://a", "docker", ("*",), ("push",)))
        tx.connection.execute(insert(WebhookEvents), [each | {"dead_at": None} for each in events] + dead)
        tx.connection.execute(insert(TagHistory), [move for _ in ids])
        queue = {"webhook": "a", "repository": "x", "due_at": EPOCH}
        tx.connection.execute(insert(WebhookQueues), [queue])


@pytest.mark.slow
def test_a_page_of_usage_costs_the_same_in_a_large_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repositories out of the middle, all of which share a blob with all others; and large namespaces."""
    monkeypatch.setattr(usage_module, "BRIEF_LIMIT", 1_000)
    costs = []
    for size in (2_400, LARGE):
        with closing(filled(tmp_path, tags=size, repositories=size)) as catalog:
            usage, work = build_registry(catalog, Full()).usage, Work(catalog)
            middle = f"team/{size // 2:07}"
            page = usage.repositories(after=middle, limit=100)
            assert {(row.blobs, row.bytes, row.own) for row in page.rows} == {(1, 2, 0)}
            assert page.after == page.rows[99].name
            assert [row.usage for row in usage.overview(1, after="many/~", limit=1)[0]] == [None]
            costs.append(
                [
                    work.of_call(partial(usage.repositories, after=middle, limit=100)),
                    work.of_call(partial(usage.overview, 2, after=middle, limit=20)),
                    work.of_call(partial(usage.overview, 1, limit=20)),
                ]
            )
    for small, large in zip(*costs, strict=True):
        assert 0 < large < 1.01 * small


@pytest.mark.slow
def test_a_search_costs_the_same_in_a_large_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part that many names have, few, or none; and of a tag, wherever it is."""
    monkeypatch.setattr(usage_queries_module, "_NEAR", 100)
    monkeypatch.setattr(name_parts, "_FEW", 500)
    costs = []
    for size in (2_400, LARGE):
        with closing(filled(tmp_path, tags=100, repositories=size)) as catalog:
            upgrade(catalog)
            registry, work = build_registry(catalog, Full()), Work(catalog)
            calls = list[Callable[[], Any]]()
            for part, found, tag in (
                ("team", 50, None),
                ("none", 0, None),
                ("any/tags", 1, None),
                ("qz", 0, None),
                ("ny/t", 1, "tag-00"),
            ):
                reach = Reach((("*",), (f"*{part}*",)))
                calls.append(partial(registry.usage.listed, limit=50, reach=reach, tag=tag))
                assert len(calls[-1]()[0]) == found
            for part, found in (("none", 0), ("any/tags", 1)):
                calls.append(partial(registry.repositories.search, part, offset=0, limit=50))
                assert calls[-1]()[0] == found
            costs.append([work.of_call(call) for call in calls])
    for small, large in zip(*costs, strict=True):
        assert 0 < large < 1.02 * small


@pytest.mark.slow
def test_a_page_with_sizes_costs_the_same_in_a_large_catalog(tmp_path: Path) -> None:
    """A hundred repositories out of the middle; and a hundred tags, whose manifest all others have."""
    costs = []
    for size in (2_400, LARGE):
        with closing(filled(tmp_path, tags=size, repositories=size)) as catalog:
            registry, work = build_registry(catalog, Full()), Work(catalog)
            name, middle = RepositoryName("many/tags"), f"tag-{size // 2:07}"
            rows = registry.tags.describe(name, after=(EPOCH, middle), limit=100).rows
            assert registry.usage.sizes(name, rows) == {MANIFEST: (2, 0)}
            found, following = registry.usage.listed(after=f"team/{size // 2:07}", limit=100)
            assert {(row.usage.bytes, row.usage.own, row.tags.tags) for row in found} == {(2, 0, 0)}
            assert following == found[99].usage.name
            costs.append(
                (
                    work.of_call(partial(registry.usage.listed, after=f"team/{size // 2:07}", limit=100)),
                    work.of_call(partial(registry.usage.sizes, name, rows)),
                )
            )
    for small, large in zip(*costs, strict=True):
        assert 0 < large < 1.01 * small


@pytest.mark.slow
def test_a_page_costs_the_same_in_a_large_catalog(tmp_path: Path) -> None:
    """A page out of the middle of 30,000 tags, referrers or repositories costs what it costs among 2,400."""
    costs: dict[int, dict[str, int]] = {}
    for size in (2_400, LARGE):
        catalog = filled(tmp_path, tags=size, repositories=size)
        client, work = client_of(build_registry(catalog, Full())), Work(catalog)
        steps = []
        for request_ in pages_of(size, size):
            method, path = request_.split(" ")
            answer = client.open(path, method=method)
            assert answer.status_code == 200
            if method == "GET":
                (listed,) = (value for value in answer.json.values() if isinstance(value, list))
                assert len(listed) == (1000 if "referrers" in path else 100)
            steps.append(work.of(client, method, path))
        costs[size] = dict(zip(pages_of(0, 0), steps, strict=True))
        catalog.close()
    for path, taken in costs[LARGE].items():
        assert 0 < taken < 1.01 * costs[2_400][path], path


@pytest.mark.slow
def test_retention_costs_the_same_in_a_large_catalog(tmp_path: Path) -> None:
    """By page, of tags and of repositories; and it keeps none of what it has seen."""
    costs = list[tuple[int, int]]()
    for size in (2_400, LARGE):
        catalog = filled(tmp_path, tags=size, repositories=size)
        registry, work, middle = build_registry(catalog, Full()), Work(catalog), size // 2
        after, last = (EPOCH + timedelta(seconds=middle), f"tag-{middle:07}"), f"team/{middle:07}"
        with catalog.read() as tx:
            costs.append(
                (
                    work.of_call(lambda: tx.retention.tags(1, after, 500)),  # noqa: B023 -- called at once
                    work.of_call(lambda: tx.retention.repositories(last, 500)),  # noqa: B023 -- as above
                )
            )
        registry.retention.add(RetentionRule("many/*", newest=10))
        tracemalloc.start()
        result = RetentionRun(registry, dry_run=True).run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        catalog.close()
        assert result == Retained(1, size, size - 10)
        assert peak < 3 << 20
    for small, large in zip(*costs, strict=True):
        assert 0 < large < 1.01 * small


#: Tags, and repositories, of the PostgreSQL catalog.
ROWS = short_or_long(8_000, 20_000)


#: No request, but what retention reads.
RETENTION = "retention"


def look_by_rules(registry: Registry) -> None:
    """Read pages of repositories and tags, and whether tags exist, as retention does."""
    middle = ROWS // 2
    names = [Tag(f"tag-{middle:07}"), Tag(f"sha256-{middle:064x}.sig")]
    with registry.state.catalog.read() as tx:
        assert len(tx.retention.repositories(f"team/{middle:07}", 100)) == 100
        assert len(tx.retention.tags(1, (EPOCH + timedelta(seconds=middle), names[0]), 100)) == 100
        assert not tx.retention.has_all(1, names)
        assert tx.retention.about(1, names) == {names[1]}


@pytest.fixture(scope="module")
def large_postgresql() -> Iterator[Catalog]:
    """A PostgreSQL catalog that is large enough for its planner to mind, and knows it."""
    with migrated_postgresql() as url:
        catalog = Catalog(url)
        fill(catalog, tags=ROWS, repositories=ROWS)
        with catalog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
        yield catalog
        catalog.close()


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize(
    "request_",
    [
        *pages_of(ROWS, ROWS),
        "GET /v2/_catalog?last=u",
        "GET /v2/many/tags/_dualreg/tags?sort=-pushed&prefix=x",
        RETENTION,
    ],
)
def test_postgresql_searches_indexes_too(large_postgresql: Catalog, request_: str) -> None:
    """Its planner is free to do otherwise, but reads no table from end to end, and sorts nothing."""
    seen: list[tuple[str, Any]] = []

    def note(*event_: Any) -> None:
        if event_[2].startswith("SELECT") and "FROM" in event_[2]:
            seen.append((event_[2], event_[3]))

    registry = build_registry(large_postgresql, Full())
    event.listen(large_postgresql.engine, "before_cursor_execute", note)
    try:
        if request_ == RETENTION:
            look_by_rules(registry)
        else:
            method, path = request_.split(" ")
            assert client_of(registry).open(path, method=method).status_code == 200
    finally:
        event.remove(large_postgresql.engine, "before_cursor_execute", note)
    assert seen
    for statement, parameters in seen:
        with large_postgresql.engine.connect() as connection:
            steps = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
        slow = [step for step in steps if "Seq Scan" in step or "Sort" in step]
        assert slow == [], f"{statement}\n" + "\n".join(steps)
