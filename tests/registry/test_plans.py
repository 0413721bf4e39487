"""Query plans: no request reads a table from end to end, or sorts what an index has in order."""

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, insert

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Blobs, Manifests, Repositories, RepositoryBlobs, Tags
from dualreg.catalog.upgrade import upgrade
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from dualreg.web.app import create_app
from tests.protocol.exchange import TOKEN, World, make_world

ABSENT = f"sha256:{'0' * 64}"
TYPE = "application/vnd.example.signature+json"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalog, World]]:
    """A catalog, and a registry over it with a little of everything; plans do not depend on what is there."""
    catalog = Catalog(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'catalog.sqlite3'}")
    upgrade(catalog)
    yield catalog, make_world(create_app(Settings(), build_registry(catalog, MemoryStore())).test_client())
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
        slow = [step for step in steps if step.startswith("SCAN") or "B-TREE FOR ORDER" in step]
        assert slow == [], f"{statement}\n{steps}"


MANIFEST = Digest.of(b"{}")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def filled(folder: Path, *, tags: int, repositories: int) -> Catalog:
    """Return a catalog with that many tags in ``many/tags``, and so many other repositories of one image."""
    catalog = Catalog(f"sqlite:///{folder / f'{tags}.sqlite3'}")
    upgrade(catalog)
    ids = range(1, repositories + 2)
    blob = {"digest": MANIFEST, "size": 2, "created_at": EPOCH, "verified_at": EPOCH}
    manifest = {"media_type": media_types.OCI_INDEX, "artifact_type": "", "annotations": {}}
    rows: dict[Any, list[dict[str, Any]]] = {
        Blobs: [blob],
        Repositories: [
            {"id": id_, "name": f"team/{id_:07}" if id_ > 1 else "many/tags", "created_at": EPOCH}
            for id_ in ids
        ],
        RepositoryBlobs: [{"repository_id": id_, "digest": MANIFEST, "linked_at": EPOCH} for id_ in ids],
        Manifests: [
            {"repository_id": id_, "digest": MANIFEST, "pushed_at": EPOCH, **manifest} for id_ in ids
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
    return catalog


def cost(client: FlaskClient, method: str, path: str) -> float:
    """Return the seconds that the request takes, as a rule."""
    samples = []
    for _ in range(31):
        begun = time.perf_counter()
        client.open(path, method=method)
        samples.append(time.perf_counter() - begun)
    return statistics.median(samples)


@pytest.mark.slow
def test_a_page_costs_the_same_in_a_large_catalog(tmp_path: Path) -> None:
    """A page out of the middle of 200,000 tags or 100,000 repositories costs what it costs among 400."""
    costs: dict[int, list[float]] = {}
    for tags, repositories in ((400, 400), (200_000, 100_000)):
        catalog = filled(tmp_path, tags=tags, repositories=repositories)
        client = create_app(Settings(), build_registry(catalog, MemoryStore())).test_client()
        middle, place = tags // 2, int(EPOCH.timestamp()) + tags // 2
        for path in (
            f"/v2/many/tags/tags/list?n=100&last=tag-{middle:07}",
            f"/v2/_catalog?n=100&last=team/{repositories // 2:07}",
            f"/v2/many/tags/_dualreg/tags?n=100&after=1-tag-{middle:07}",
            f"/v2/many/tags/_dualreg/tags?n=100&sort=-pushed&after={place}000000-tag-{middle:07}",
            f"/v2/many/tags/manifests/tag-{middle:07}",
        ):
            method = "HEAD" if "manifests" in path else "GET"
            answer = client.open(path, method=method)
            assert answer.status_code == 200
            if method == "GET":
                (listed,) = (value for value in answer.json.values() if isinstance(value, list))
                assert len(listed) == 100
            costs.setdefault(tags, []).append(cost(client, method, path))
        catalog.close()
    ratios = [large / small for small, large in zip(*costs.values(), strict=True)]
    assert max(ratios) < 5, ratios
