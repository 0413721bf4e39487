"""Lists of which not every entry counts: no page costs more than a bounded look at them, and none is lost."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, bridge, repositories, tags, v1_images, v1_views
from dualreg.registry.v1_views import V1Views
from dualreg.web.v2 import tags as v2_tags
from tests import builders
from tests.conftest import Clock
from tests.properties.registries import push_v1, push_v2
from tests.protocol.exchange import v1_text

IMAGE = builders.image(builders.layer({"a": b"1"}))
SCAN = 6


@pytest.fixture(autouse=True)
def _small_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few entries in one request."""
    for module in (repositories, tags):
        monkeypatch.setattr(module, "SCAN_LIMIT", SCAN)
    monkeypatch.setattr(tags, "_BATCH", 2)


@pytest.fixture
def fetched(catalog: Catalog) -> Iterator[list[str]]:
    """The statements that are executed."""
    seen: list[str] = []

    def note(*event_: object) -> None:
        seen.append(str(event_[2]))

    event.listen(catalog.engine, "before_cursor_execute", note)
    yield seen
    event.remove(catalog.engine, "before_cursor_execute", note)


def pages(client: FlaskClient, path: str, key: str) -> list[list[str]]:
    """Return what the pages list, as a client sees them that follows every Link."""
    seen = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200
        seen.append([entry if isinstance(entry, str) else entry["name"] for entry in answer.json[key]])
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert len(seen) < 50
    return seen


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("gaps", [(0, 0, 0), (5, 6, 7), (20, 1, 13), (0, 30, 0), (0, 0, 30)])
def test_empty_repositories_are_passed_over(
    client: FlaskClient, registry: Registry, size: int, gaps: tuple[int, ...]
) -> None:
    """However many of them lie between those that hold an image: each of these is listed once, in order."""
    shown = []
    for number, gap in enumerate(gaps):
        for empty in range(gap):
            registry.bridge.prepare(RepositoryName(f"r{number}/a{empty:02}"))
        shown.append(f"r{number}/b")
        push_v2(registry, RepositoryName(shown[-1]), Tag("1"), IMAGE)
    listed = pages(client, f"/v2/_catalog?n={size}", "repositories")
    assert [name for page in listed for name in page] == shown
    assert max(map(len, listed)) <= size
    assert len(listed) <= len(shown) + sum(gaps) // SCAN + 1


def test_nothing_but_empty_repositories(client: FlaskClient, registry: Registry) -> None:
    """Even then the list has an end."""
    for number in range(2 * SCAN + 1):
        registry.bridge.prepare(RepositoryName(f"empty/{number:02}"))
    assert pages(client, "/v2/_catalog", "repositories") == [[], [], []]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("wanted", [{0}, {19}, {3, 4, 17}, set(), set(range(20))])
def test_the_newest_of_a_rare_prefix(
    client: FlaskClient, registry: Registry, clock: Clock, size: int, wanted: set[int]
) -> None:
    """Tags with other names are passed over, some in each request; none is lost or repeated."""
    name = RepositoryName("team/app")
    for number in range(20):
        push_v2(registry, name, Tag(f"{'rare' if number in wanted else 'other'}-{number:02}"), IMAGE)
        clock.advance(timedelta(seconds=number % 3))
    path = f"/v2/{name}/_dualreg/tags?sort=-pushed&prefix=rare&n={size}"
    listed = pages(client, path, "tags")
    found = [int(tag.removeprefix("rare-")) for page in listed for tag in page]
    assert found == sorted(wanted, reverse=True)
    assert max(map(len, listed)) <= size


def test_a_page_of_a_rare_prefix_asks_a_bounded_number_of_times(
    client: FlaskClient, registry: Registry, fetched: list[str]
) -> None:
    """Whether the repository exists, then batch after batch up to the limit."""
    for number in range(20):
        push_v2(registry, RepositoryName("team/app"), Tag(f"other-{number:02}"), IMAGE)
    fetched.clear()
    assert client.get("/v2/team/app/_dualreg/tags?sort=-pushed&prefix=rare").json["tags"] == []
    assert len(fetched) == 1 + SCAN // 2


def test_very_many_tags(client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over V2 there are pages then, though the client asked for none; V1 has none, and says so."""
    for number in range(5):
        push_v2(registry, RepositoryName("team/app"), Tag(f"t{number}"), IMAGE)
    monkeypatch.setattr(v2_tags, "TAGS_LIMIT", 2)
    assert pages(client, "/v2/team/app/tags/list", "tags") == [["t0", "t1"], ["t2", "t3"], ["t4"]]
    assert "n=" not in client.get("/v2/team/app/tags/list").headers["Link"]
    monkeypatch.setattr(bridge, "TAGS_LIMIT", 4)
    refused = client.get("/v1/repositories/team/app/tags")
    assert (refused.status_code, "more than 4 tags" in v1_text(refused)) == (403, True)
    assert client.get("/v1/repositories/team/app/tags/t4").status_code == 200
    monkeypatch.setattr(bridge, "TAGS_LIMIT", 5)
    assert len(client.get("/v1/repositories/team/app/tags").json) == 5
    monkeypatch.setattr(v1_images, "IMAGES_LIMIT", 0)
    refused = client.get("/v1/repositories/team/app/images")
    assert (refused.status_code, "more than 0 images" in v1_text(refused)) == (403, True)


def test_views_are_derived_in_parts(
    client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request derives some, and asks to come back if more are missing; one tag is always seen at once."""
    monkeypatch.setattr(v1_views, "_DERIVED_AT_ONCE", 2)
    for number in range(5):
        image = builders.image(builders.layer({"a": bytes([number])}))
        push_v2(registry, RepositoryName("team/app"), Tag(f"t{number}"), image)
    answers = [client.get("/v1/repositories/team/app/images") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "5"
    assert "being prepared for V1 clients" in v1_text(answers[0])
    assert len(answers[2].json) == 5
    for number in range(5, 9):
        image = builders.image(builders.layer({"a": bytes([number])}))
        push_v2(registry, RepositoryName("team/app"), Tag(f"t{number}"), image)
    assert client.get("/v1/repositories/team/app/tags/t8").status_code == 200
    assert [client.get("/v1/repositories/team/app/tags").status_code for _ in range(2)] == [429, 200]


def test_one_request_moves_a_limited_number_of_v1_tags(
    client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list with more of them changes nothing; those that point there already do not count."""
    monkeypatch.setattr(bridge, "_MOVED_AT_ONCE", 3)
    (image,) = builders.v1_chain(builders.layer({"a": b"1"}))
    name = RepositoryName("team/app")
    push_v1(registry, name, Tag("t0"), [image])

    def end(count: int) -> TestResponse:
        listed = [{"id": image.id, "Tag": f"t{number}"} for number in range(count)]
        token = {"Authorization": f'Token repository="{name}"'}
        return client.put(f"/v1/repositories/{name}/images", json=listed, headers=token)

    refused = end(5)
    assert (refused.status_code, "one request sets at most 3" in v1_text(refused)) == (413, True)
    assert registry.tags.list_all(name) == ("t0",)
    assert [end(4).status_code, end(7).status_code] == [204, 204]
    assert len(registry.tags.list_all(name)) == 7


@pytest.mark.parametrize("many", [True, False])
def test_a_tag_that_moves_while_v1_looks_is_seen(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    many: bool,  # noqa: FBT001 -- parametrised
) -> None:
    """What it was is worked out, what it has become meanwhile as well; never is it not there."""
    name, tag = RepositoryName("team/app"), Tag("latest")
    images = [builders.image(builders.layer({"a": bytes([number])})) for number in range(3)]
    push_v2(registry, name, tag, images[0])
    derive, moved = V1Views.derive_all, iter(images[1:])

    def moving(*given: object) -> bool:
        derived = derive(*given)  # type: ignore[arg-type]  # as it was called
        if (image := next(moved, None)) is not None:
            push_v2(registry, name, tag, image)
        return derived

    monkeypatch.setattr(V1Views, "derive_all", moving)
    seen = registry.bridge.tags(name)[tag] if many else registry.bridge.resolve(name, tag)
    assert seen == Digest.of(images[-1].config).hex
