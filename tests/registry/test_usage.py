"""Usage: what repositories and namespaces have, compared with a count of every link."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualreg.catalog.rows import UsageRow
from dualreg.image.names import RepositoryName
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry import Registry, usage
from dualreg.registry.usage import ListedNamespace, Total
from tests.properties.registries import fresh_registry

#: Names between whose bytes the slash has its place.
NAMES = ["a", "a-b", "a.b/c", "a/b", "a/b/c", "a/c", "a0", "b/c", "b/c-d", "b/c/d", "c"]
BLOBS = [bytes(size) for size in (1, 20, 300, 4000)]

contents = st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(BLOBS), max_size=4))


def fill(registry: Registry, content: dict[str, set[bytes]]) -> None:
    """Push blobs to repositories, which exist even without any."""
    for name, blobs in content.items():
        registry.uploads.start(RepositoryName(name))
        for blob in blobs:
            registry.uploads.ingest(RepositoryName(name), [blob])


def expected(content: dict[str, set[bytes]], depth: int | None, reach: Reach) -> list[UsageRow]:
    """Return what each group of repositories has."""
    groups = defaultdict[str, dict[str, set[bytes]]](dict)
    for name, blobs in content.items():
        if reach.covers(name):
            groups["/".join(name.split("/")[:depth])][name] = blobs
    rows = []
    for group, members in groups.items():
        inside = set[bytes]().union(*members.values())
        outside = set[bytes]().union(*(blobs for name, blobs in content.items() if name not in members))
        rows.append(UsageRow(group, len(inside), total(inside), total(inside - outside)))
    return sorted(rows, key=lambda row: row.name)


def total(blobs: Iterable[bytes]) -> int:
    """Return the size of all."""
    return sum(map(len, blobs))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    contents,
    st.sampled_from([None, 1, 2, 3]),
    st.integers(1, 4),
    st.sampled_from([None, "a*", "*/c", "b/*"]),
    st.sampled_from([1, 3, 100]),
)
def test_usage_is_what_a_count_finds(
    content: dict[str, set[bytes]], depth: int | None, limit: int, pattern: str | None, links: int
) -> None:
    """Of repositories and namespaces, on pages of any size, of all names and of some."""
    reach = Reach(((pattern,),)) if pattern else EVERYWHERE
    with fresh_registry() as registry, patch.object(usage, "LINKS_LIMIT", links):
        fill(registry, content)
        found, after = list[UsageRow](), ""
        while True:
            page = (
                registry.usage.namespaces(depth, after=after, limit=limit, reach=reach)
                if depth
                else registry.usage.repositories(after=after, limit=limit, reach=reach)
            )
            assert len(page.rows) <= limit
            assert page.rows or page.after is None
            assert len(page.rows) < 2 or not depth or sum(row.blobs for row in page.rows) <= links
            found += page.rows
            if page.after is None:
                break
            after = page.after
        wanted = expected(content, depth, reach)
        assert sorted(found, key=lambda row: row.name) == wanted
        assert len(found) == len(wanted)
        blobs = set[bytes]().union(*content.values())
        assert registry.usage.total() == Total(len(blobs), total(blobs), 0)


@settings(max_examples=15, deadline=None)
@given(contents, st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 3, 100]))
def test_an_overview_leaves_out_large_namespaces(
    content: dict[str, set[bytes]], depth: int, limit: int, most: int
) -> None:
    """Not their names; all others are added up, on pages that have few blobs."""
    with fresh_registry() as registry, patch.object(usage, "BRIEF_LIMIT", most):
        fill(registry, content)
        found, after = list[ListedNamespace](), ""
        while True:
            rows, end = registry.usage.overview(depth, after=after, limit=limit)
            assert sum(row.usage.blobs for row in rows if row.usage) <= most
            found += rows
            if end is None:
                break
            assert 0 < len(rows) <= limit
            after = end
    links = Counter(dict.fromkeys((row.name for row in found), 0))
    for name, blobs in content.items():
        links["/".join(name.split("/")[:depth])] += max(1, len(blobs))
    wanted = {
        row.name: row if links[row.name] <= most else None for row in expected(content, depth, EVERYWHERE)
    }
    assert {row.name: row.usage for row in found} == wanted
    assert {row.name for row in found if row.is_repository} == wanted.keys() & content.keys()
    assert len(found) == len(wanted)


def test_a_large_namespace_is_refused(registry: Registry) -> None:
    """Only for those for whom it is bounded, and by what they may pull."""
    fill(registry, {"a/b": {*BLOBS[:2]}, "a/c": {BLOBS[0]}, "b": {BLOBS[3]}})
    with patch.object(usage, "LINKS_LIMIT", 2):
        assert [row.name for row in registry.usage.namespaces(1, limit=9).rows] == ["a"]
        assert [row.name for row in registry.usage.namespaces(2, limit=9, bounded=True).rows] == ["a/b"]
        with pytest.raises(usage.NamespaceTooLarge, match="a has more than 2 blobs"):
            registry.usage.namespaces(1, limit=9, bounded=True)
        reach = Reach((("a/b", "b"),))
        assert [
            row.blobs for row in registry.usage.namespaces(1, limit=9, reach=reach, bounded=True).rows
        ] == [2]


@pytest.mark.parametrize("depth", [1, 2])
def test_what_was_deleted_is_garbage(registry: Registry, depth: int) -> None:
    """It is nobody's, and counted apart until it is collected."""
    fill(registry, {"a/b": {BLOBS[1]}, "a/c": {BLOBS[2]}})
    registry.repositories.delete(RepositoryName("a/b"))
    assert [row.bytes for row in registry.usage.namespaces(depth, limit=9).rows] == [300]
    assert registry.usage.total() == Total(1, 300, 20)
