"""Growth: what counts as a pull and as a push, on which day, and what it costs."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.catalog.growth import DayRow, GrowthQueries
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.growth import KEPT
from tests import builders
from tests.conftest import Clock
from tests.properties.registries import fresh_registry, push_v2
from tests.protocol.exchange import TOKEN, push_blob, push_image, push_v1
from tests.soak import short_or_long

NAME, DAY = "team/app", timedelta(days=1)
CHILDREN = [builders.image(builders.layer({"a": b"%d" % number}), oci=True) for number in range(2)]
OTHER, NEW = (builders.image(builders.layer({"a": text})) for text in (b"other", b"new"))
INDEX = builders.index(*CHILDREN)
CHAIN = builders.v1_chain(builders.layer({"c": b"3"}), builders.layer({"d": b"4"}))
_MANIFESTS, _V1 = f"/v2/{NAME}/manifests", "/v1/images"
_PUT = {"data": NEW.manifest, "content_type": NEW.media_type}
_ACCEPT = {"Accept": media_types.OCI_INDEX}
#: Requests, and how many pulls and pushes each counts as.
REQUESTS: list[tuple[str, str, dict[str, Any], int, int]] = [
    ("GET", f"{_MANIFESTS}/index", {"headers": _ACCEPT}, 1, 0),
    ("GET", f"{_MANIFESTS}/{Digest.of(INDEX)}", {}, 1, 0),
    ("HEAD", f"{_MANIFESTS}/index", {"headers": _ACCEPT}, 0, 0),
    ("GET", f"{_MANIFESTS}/{CHILDREN[0].digest}", {}, 0, 0),  # with its index, which was pulled before
    ("GET", f"{_MANIFESTS}/{OTHER.digest}", {}, 1, 0),  # which has no tag
    (
        "GET",
        f"{_MANIFESTS}/index",
        {"headers": _ACCEPT | {"If-None-Match": f'"{Digest.of(INDEX)}"'}},
        0,
        0,
    ),
    ("GET", f"{_MANIFESTS}/none", {}, 0, 0),
    ("GET", f"/v2/{NAME}/blobs/{Digest.of(OTHER.config)}", {}, 0, 0),
    ("GET", f"/v2/{NAME}/tags/list", {}, 0, 0),
    ("GET", f"{_V1}/{CHAIN[-1].id}/ancestry", {"headers": TOKEN}, 1, 0),
    ("GET", f"{_V1}/{CHAIN[0].id}/ancestry", {"headers": TOKEN}, 0, 0),
    ("GET", f"{_V1}/{CHAIN[-1].id}/json", {"headers": TOKEN}, 0, 0),
    ("PUT", f"{_MANIFESTS}/new", _PUT, 0, 1),
    ("PUT", f"{_MANIFESTS}/{NEW.digest}?tag=x&tag=y", _PUT, 0, 2),
    ("PUT", f"{_MANIFESTS}/{NEW.digest}", _PUT, 0, 0),
    ("PUT", f"{_MANIFESTS}/bad", {"data": b"{}", "content_type": NEW.media_type}, 0, 0),
    ("PUT", f"/v1/repositories/{NAME}/tags/more", {"json": CHAIN[-1].id}, 0, 1),
    ("PUT", f"/v1/repositories/{NAME}/tags/more", {"json": "0" * 64}, 0, 0),
]


@pytest.fixture
def filled(client: FlaskClient, registry: Registry) -> FlaskClient:
    """A client of a registry that has what REQUESTS ask for, and has counted nothing."""
    for child in (*CHILDREN, OTHER):
        push_image(client, NAME, child, str(child.digest))
    for data in NEW.blobs.values():
        push_blob(client, NAME, data)
    pushed = client.put(f"{_MANIFESTS}/index", data=INDEX, content_type=media_types.OCI_INDEX)
    assert pushed.status_code == 201
    push_v1(client, NAME, CHAIN, "v1")
    assert client.get(f"/v1/repositories/{NAME}/images", headers=TOKEN).status_code == 200
    registry.tags.pulls._pending._pending.clear()
    return client


def _today(registry: Registry) -> tuple[int, int]:
    registry.tags.pulls.flush()
    row = registry.growth.days(1)[-1]
    return row.pulls, row.pushes


def test_what_counts(filled: FlaskClient, registry: Registry) -> None:
    """One image is one pull, over either API and however often it is repeated; one tag is one push."""
    expected = [0, 0]
    for method, path, options, pulls, pushes in REQUESTS:
        for _ in range(3):
            filled.open(path, method=method, **options)
        expected = [expected[0] + 3 * pulls, expected[1] + 3 * pushes]
        assert [*_today(registry)] == expected, (method, path)


@pytest.fixture
def statements(catalog: Catalog) -> Iterator[list[str]]:
    """The statements that are executed."""
    seen = list[str]()

    def note(*given: object) -> None:
        seen.append(str(given[2]))

    event.listen(catalog.engine, "before_cursor_execute", note)
    yield seen
    event.remove(catalog.engine, "before_cursor_execute", note)


def test_counting_takes_no_statements(registry: Registry, statements: list[str]) -> None:
    """Of pulls and pushes; together, they are written by as many as one of them is."""
    name, tag = RepositoryName(NAME), Tag("v1")
    push_v2(registry, name, tag, OTHER)

    def written(number: int) -> int:
        statements.clear()
        for _ in range(number):
            registry.tags.record_pull(name, tag)
            registry.tags.record_pushes(1)
        assert statements == []
        registry.tags.pulls.flush()
        return len(statements)

    assert written(1) == written(500)
    assert _today(registry) == (501, 501)


def test_days_have_no_gap(registry: Registry, clock: Clock) -> None:
    """They end today and begin where anything is known, or as many days ago as are wanted; two years stay."""
    today = f"{clock.instant:%Y-%m-%d}"
    assert registry.growth.days(30) == [DayRow(today)]
    push_v2(registry, RepositoryName(NAME), Tag("v1"), OTHER)
    stored = registry.growth.note()
    assert (stored.repositories, stored.tags, stored.blobs) == (1, 1, len(OTHER.blobs) + 1)
    noted = clock.instant
    clock.advance(3 * DAY)
    registry.tags.record_pushes(7)
    registry.tags.pulls.flush()
    days = registry.growth.days(30)
    assert [day.pushes for day in days] == [0, 0, 0, 7]
    assert days[0] == DayRow(today, 0, 0, noted, stored)
    assert registry.growth.days(2) == days[2:]
    clock.advance((KEPT - 4) * DAY)
    registry.growth.note()
    assert len(registry.growth.days(KEPT)) == KEPT
    clock.advance(DAY)
    registry.growth.note()
    with registry.state.catalog.read() as tx:
        assert (
            len(GrowthQueries(tx.connection, tx.now).list(clock.instant.date() - 2 * KEPT * DAY)) == 3
        )  # of four
    assert len(registry.growth.days(KEPT)) == KEPT - 2


REPOSITORY, TAG = RepositoryName(NAME), Tag("v1")
#: What may happen, and what it counts as.
CALLS: dict[str, tuple[Callable[[Registry], object], str, int]] = {
    "pull": (lambda registry: registry.tags.record_pull(REPOSITORY, TAG), "pulls", 1),
    "by digest": (lambda registry: registry.tags.record_image_pull(REPOSITORY, Digest.of(INDEX)), "pulls", 1),
    "child": (lambda registry: registry.tags.record_image_pull(REPOSITORY, CHILDREN[0].digest), "pulls", 0),
    "push": (lambda registry: registry.tags.record_pushes(2), "pushes", 2),
    "note": (lambda registry: registry.growth.note(), "pulls", 0),
}
ACTS = st.lists(st.sampled_from([*CALLS, "write", "day", "crash"]), max_size=30)


@settings(deadline=None, max_examples=short_or_long(15, 500))
@given(ACTS)
def test_any_day(acts: list[str]) -> None:
    """Each pull and push counts on its day, whenever it is written; a crash loses what was not."""
    clock, pending, written = Clock(), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    with fresh_registry(clock) as registry:
        for child in CHILDREN:
            push_v2(registry, REPOSITORY, Tag("part"), child)
        registry.manifests.put(REPOSITORY, TAG, media_types.OCI_INDEX, INDEX)
        for act in acts:
            if act in CALLS:
                call, kind, number = CALLS[act]
                call(registry)
                pending[f"{clock.instant:%Y-%m-%d}", kind] += number
            elif act == "write":
                registry.tags.pulls.flush()
                written, pending = written + pending, Counter()
            elif act == "day":
                clock.advance(timedelta(hours=13))
            else:
                registry.tags.pulls._pending._pending.clear()
                pending.clear()
        days = registry.growth.days(KEPT)
    counted = {(day.day, kind): getattr(day, kind) for day in days for kind in ("pulls", "pushes")}
    assert {each: number for each, number in counted.items() if number} == written
