"""Lists of which not every entry counts: no page costs more than a bounded look at them, and none is lost."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, repositories, tags
from dualreg.registry.bridge import Bridge
from tests import builders
from tests.conftest import Clock
from tests.properties.registries import push_v2

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
    derive, moved = Bridge._derive_all, iter(images[1:])

    def moving(*given: object) -> bool:
        derived = derive(*given)  # type: ignore[arg-type]  # as it was called
        if (image := next(moved, None)) is not None:
            push_v2(registry, name, tag, image)
        return derived

    monkeypatch.setattr(Bridge, "_derive_all", moving)
    seen = registry.bridge.tags(name)[tag] if many else registry.bridge.resolve(name, tag)
    assert seen == Digest.of(images[-1].config).hex
