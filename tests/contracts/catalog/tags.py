"""Tags: pointed, listed, described."""

from datetime import timedelta
from itertools import product
from random import Random
from typing import Any

import pytest

from dualreg.catalog import tag_orders, tags
from dualreg.catalog.database import Catalog
from dualreg.catalog.orders import TagOrder
from dualreg.catalog.rows import Origin
from dualreg.image import media_types
from dualreg.image.manifest import parse
from dualreg.image.names import Tag
from tests import builders
from tests.conftest import Clock
from tests.contracts.catalog.rows import (
    IMAGE,
    MANIFEST,
    NAME,
    ODD_ORDER,
    OTHER,
    artifact,
    image_id,
    push,
    record,
)


class TagsContract:
    """Tags: pointed, listed, described."""

    def test_tags_are_listed_in_byte_order(self, catalog: Catalog) -> None:
        """Upper case before underscore before lower case, on every database; ``last`` need not exist."""
        assert sorted(ODD_ORDER) == ODD_ORDER
        with catalog.begin() as tx:
            push(tx, NAME, *reversed(ODD_ORDER))
            push(tx, OTHER, "not-mine")
        with catalog.read() as tx:
            assert tx.tags.list(NAME, last="", limit=None) == tuple(ODD_ORDER)
            assert tx.tags.list(NAME, last="", limit=2) == tuple(ODD_ORDER[:2])
            for position, tag in enumerate(ODD_ORDER):
                assert tx.tags.list(NAME, last=tag, limit=3) == tuple(ODD_ORDER[position + 1 : position + 4])
            assert tx.tags.list(NAME, last="a/", limit=1) == (Tag("a0"),)

    def test_no_tags_is_not_no_repository(self, catalog: Catalog) -> None:
        """An empty list tells a repository without tags, None that there is no such repository."""
        with catalog.begin() as tx:
            push(tx)
            assert tx.tags.list(NAME, last="", limit=None) == ()
            assert tx.tags.list(NAME, last="", limit=2) == ()
            assert tx.tags.list(OTHER, last="", limit=None) is None

    def test_checks_of_tags(self, catalog: Catalog, clock: Clock) -> None:
        """When upstream was asked about a tag is found with it; that of others, and of digests, is not."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b")
            tx.tags.confirm(repository_id, [Tag("a")])
        with catalog.read() as tx:
            found = [tx.manifests.find(NAME, each) for each in (Tag("a"), Tag("b"), MANIFEST.digest)]
            assert [row and row.checked_at for row in found] == [clock.instant, None, None]

    def test_tags_point_move_and_go(self, catalog: Catalog) -> None:
        """A tag points at the last manifest it was given; only the one asked for is removed."""
        other = artifact(1)
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b", "c")
            record(tx, repository_id, other)
            tx.tags.point(repository_id, [Tag("b"), Tag("d")], other.digest)
            tx.tags.point(repository_id, [], other.digest)
            assert sorted(tx.tags.pointing_at(repository_id, MANIFEST.digest)) == ["a", "c"]
            assert sorted(tx.tags.pointing_at(repository_id, other.digest)) == ["b", "d"]
            assert tx.tags.has_any(repository_id, [Tag("a"), Tag("z")])
            assert tx.tags.remove(repository_id, Tag("a")) is True
            assert tx.tags.remove(repository_id, Tag("a")) is False
            assert not tx.tags.has_any(repository_id, [Tag("a"), Tag("z")])
            assert tx.tags.list(NAME, last="", limit=None) == ("b", "c", "d")
            assert sorted(tx.tags.clear(repository_id, 9)) == ["b", "c", "d"]
            assert tx.tags.clear(repository_id, 9) == ()

    def test_tags_are_case_sensitive(self, catalog: Catalog) -> None:
        """Two tags that differ in case are two tags."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "Latest", "latest")
            assert tx.tags.remove(repository_id, Tag("LATEST")) is False
            assert tx.tags.remove(repository_id, Tag("Latest")) is True
            assert tx.manifests.find(NAME, Tag("Latest")) is None
            assert tx.manifests.find(NAME, Tag("latest")) is not None

    def test_tags_are_described(self, catalog: Catalog, clock: Clock) -> None:
        """By name or newest first, from a prefix, after the last one seen, with what they point at."""
        times = {}
        for name in ("b", "a", "Ab", "a_", "aB"):
            with catalog.begin() as tx:
                push(tx, NAME, name)
                push(tx, OTHER, "not-mine")
            times[name] = clock.instant
            clock.advance(timedelta(microseconds=1))

        def describe(
            prefix: str = "", after: str | None = None, limit: int = 9, *, newest_first: bool = False
        ) -> list[str]:
            with catalog.read() as tx:
                rows = tx.tags.describe(
                    NAME,
                    prefix=prefix,
                    newest_first=newest_first,
                    after=None if after is None else (times[after], after),
                    limit=limit,
                )
            for row in rows:
                assert (row.digest, row.media_type) == (MANIFEST.digest, IMAGE.media_type)
                assert (row.size, row.pushed_at) == (len(IMAGE.manifest), times[row.name])
                assert row.pulled_at is None
            return [row.name for row in rows]

        assert describe() == ["Ab", "a", "aB", "a_", "b"]
        assert describe(limit=2) == ["Ab", "a"]
        assert describe(after="a") == ["aB", "a_", "b"]
        assert describe("a") == ["a", "aB", "a_"]
        assert describe("a_") == ["a_"]
        assert describe("a", after="a", limit=1) == ["aB"]
        assert describe("x") == []
        assert describe(newest_first=True) == ["aB", "a_", "Ab", "a", "b"]
        assert describe(after="aB", newest_first=True) == ["a_", "Ab", "a", "b"]

    @pytest.mark.slow
    def test_pages_in_every_order(self, catalog: Catalog, clock: Clock) -> None:
        """Each tag once, as sorting all of them orders them, in pages of any length, and of a prefix."""
        chance = Random(7)  # noqa: S311 -- no secret
        index = parse(media_types.OCI_INDEX, builders.index(IMAGE))
        whole = len(IMAGE.manifest) + sum(map(len, IMAGE.blobs.values()))
        sizes = {MANIFEST.digest: whole, index.digest: len(index.payload) + whole}
        values = dict[str, dict[str, Any]]()
        with catalog.begin() as tx:
            push(tx, OTHER, *ODD_ORDER)
            repository_id = push(tx)
            record(tx, repository_id, index)
            for each in (artifact(1), artifact(10**9)):
                record(tx, repository_id, each)
                sizes[each.digest] = len(each.payload)
            for name in ODD_ORDER:
                manifest = chance.choice([*sizes])
                pushed, pulled = (clock.instant + timedelta(seconds=chance.randrange(3)) for _ in range(2))
                tx.tags.point(repository_id, [Tag(name)], manifest, at=pushed)
                pulls = {(NAME, Tag(name)): pulled} if chance.random() < 0.7 else {}
                tx.tags.record_pulls(pulls) if pulls else None
                seconds = pulled.timestamp() if pulls else 0
                values[name] = {"name": 0, "pushed": pushed, "pulled": seconds, "size": sizes[manifest]}
        for order, prefix, limit, scan in product(TagOrder, ("", "a", "a_", "x", "é"), (1, 4), (None, 1, 3)):
            if scan and order.key != "pushed":
                continue
            found, after = list[str](), None
            with catalog.read() as tx:
                more = True
                while more:
                    page = tx.tags.ordered(
                        repository_id, order, prefix=prefix, after=after, scan=scan, limit=limit
                    )
                    found += [row.name for row in page.rows]
                    after, more = page.end, page.more
                    assert len(page.rows) <= limit
                assert tx.tags.count_upto(repository_id, prefix, 99) == len(found)
            expected = sorted(
                (name for name in ODD_ORDER if name.startswith(prefix)),
                key=lambda name: (values[name][order.key], name),
                reverse=order.is_descending,
            )
            assert found == expected, (order, prefix, limit, scan)

    def test_tags_that_go_while_a_page_is_read(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are not on it, and the list goes on after it, also if all of it went."""
        with catalog.begin() as tx:
            repository_id, after, found = push(tx, NAME, *"abcdefg"), None, []

            def read(*given: Any, **named: Any) -> Any:
                places = tag_orders.places(*given, **named)
                tx.tags.remove(repository_id, *map(Tag, "ab"))
                return places

            monkeypatch.setattr(tags, "places", read)
            more = True
            while more:
                page = tx.tags.ordered(repository_id, TagOrder.NAME, after=after, limit=2)
                found.append("".join(row.name for row in page.rows))
                after, more = page.end, page.more
        assert found == ["", "cd", "ef", "g"]

    def test_a_pull_is_recorded_with_its_tag(self, catalog: Catalog, clock: Clock) -> None:
        """Only the tag that was pulled is dated; moving it afterwards keeps the date."""
        with catalog.begin() as tx:
            push(tx, NAME, "a", "b")
        pulled_at = clock.instant = clock.instant + timedelta(hours=1)
        with catalog.begin() as tx:
            tx.tags.record_pulls({(NAME, Tag("a")): pulled_at, (NAME, Tag("absent")): pulled_at})
        with catalog.begin() as tx:
            push(tx, NAME, "a")
            rows = tx.tags.describe(NAME, prefix="", newest_first=False, after=None, limit=9)
            assert {row.name: row.pulled_at for row in rows} == {"a": pulled_at, "b": None}

    def test_tags_of_an_image(self, catalog: Catalog) -> None:
        """Those that point at it, or at what V1 clients see as it; other kinds of views do not count."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b")
            push(tx, OTHER, "c")
            tx.views.record(repository_id, MANIFEST.digest, image_id(1))
            tx.views.record(repository_id, MANIFEST.digest, image_id(2), kind="oci")
        with catalog.read() as tx:
            assert sorted(tx.tags.seen_as(NAME, image_id(1))) == ["a", "b"]
            assert tx.tags.seen_as(NAME, image_id(2)) == ()
            assert tx.tags.seen_as(OTHER, image_id(1)) == ()
            assert sorted(tx.tags.seen_as(NAME, MANIFEST.digest)) == ["a", "b"]
            assert tx.tags.seen_as(OTHER, MANIFEST.digest) == ("c",)

    def test_tags_have_an_origin(self, catalog: Catalog) -> None:
        """Whoever pointed a tag last; lists and views can be narrowed to it."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b")
            tx.views.record(repository_id, MANIFEST.digest, image_id(1))
            tx.tags.point(repository_id, [Tag("a")], MANIFEST.digest, Origin.V1)
            for origin, tag in ((Origin.V1, "a"), (Origin.V2, "b")):
                assert tx.tags.list(NAME, last="", limit=None, origins={origin}) == (tag,)
                assert tx.views.tags(NAME, origins={origin}).images == {tag: image_id(1)}
                found = tx.manifests.find(NAME, Tag(tag))
                assert (found and found.origin) == origin
                (row,) = tx.tags.describe(
                    NAME, prefix="", newest_first=False, after=None, limit=9, origins={origin}
                )
                assert (row.name, row.origin) == (tag, origin)

    def test_a_tag_knows_who_pushed_it_last(self, catalog: Catalog, clock: Clock) -> None:
        """Until it is pointed anew; a tag that is not there has no pusher."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b")
            assert tx.tags.pusher(NAME, Tag("a")) == (None, clock())
            tx.tags.point(repository_id, [Tag("a")], MANIFEST.digest, agent="docker/1.5.0 é")
            assert tx.tags.pusher(NAME, Tag("a")) == ("docker/1.5.0 é", clock())
            assert tx.tags.pusher(NAME, Tag("b")) == (None, clock())
            assert tx.tags.pusher(NAME, Tag("c")) is None
            assert tx.tags.pusher(OTHER, Tag("a")) is None
            tx.tags.point(repository_id, [Tag("a")], MANIFEST.digest)
            assert tx.tags.pusher(NAME, Tag("a")) == (None, clock())
