"""Retention: its rules, and the tags that they are for."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.retention import DatedTag, RetainedRepository, RetentionRule
from dualreg.image.names import RepositoryName, Tag
from tests.conftest import Clock
from tests.contracts.catalog.rows import CONFIG, MANIFEST, NAME, ODD_ORDER, OTHER, push

RULES = [
    RetentionRule("*", "*", 3, timedelta(days=999_999), timedelta(seconds=1), ("v*", "latest")),
    RetentionRule("a", "pr-*", younger_than=timedelta(days=7)),
    RetentionRule("a", "v*", matching=("*",)),
]


class RetentionContract:
    """Retention rules, repositories by name, and tags by the time of their push."""

    def test_retention_rules(self, catalog: Catalog) -> None:
        """One for each pair of patterns, in byte order, with the clauses that it was given."""
        with catalog.begin() as tx:
            assert [tx.retention.add(rule) for rule in reversed(RULES)] == [True] * 3
            assert tx.retention.add(RetentionRule("a", "v*", 1)) is False
            assert tx.retention.list() == RULES
            assert [tx.retention.remove("a", "v*") for _ in range(2)] == [True, False]
            assert tx.retention.remove("a", "*") is False
            assert tx.retention.list() == RULES[:2]

    def test_repositories_are_paged(self, catalog: Catalog) -> None:
        """In byte order, with the registry that their content comes from."""
        with catalog.begin() as tx:
            for name in (OTHER, NAME):
                push(tx, name)
            tx.repositories.record_upstream(tx.repositories.ensure(OTHER).id, "https://one.example")
            first = tx.retention.repositories("", 1)
            assert [(each.name, each.upstream) for each in first] == [(NAME, None)]
            assert tx.retention.repositories(NAME, 9) == [tx.retention.find(OTHER)]
            found = tx.retention.find(OTHER)
            assert isinstance(found, RetainedRepository)
            assert found.upstream == "https://one.example"
            assert tx.retention.find(RepositoryName("none")) is None

    def test_tags_by_push(self, catalog: Catalog, clock: Clock) -> None:
        """Pages of any size have each tag once, those pushed last first, and by name if that is the same."""
        with catalog.begin() as tx:
            row = push(tx, NAME, *ODD_ORDER)
            push(tx, OTHER, "elsewhere")
        clock.advance(timedelta(seconds=1))
        with catalog.begin() as tx:
            tx.tags.point(row, [Tag("b")], MANIFEST.digest)
            tx.tags.record_pulls({(NAME, Tag("a")): clock()})
        expected = ["b", *sorted({*ODD_ORDER} - {"b"}, reverse=True)]
        with catalog.begin() as tx:
            for size in (1, 4, 99):
                found, after = list[DatedTag](), None
                while page := tx.retention.tags(row, after, size):
                    found += page
                    after = (page[-1].pushed_at, page[-1].name)
                assert [each.name for each in found] == expected
            assert found[0] == DatedTag(Tag("b"), MANIFEST.digest, clock(), None)
            assert {each.name for each in found if each.pulled_at} == {"a"}
            assert {*tx.retention.lock(row, [Tag("a"), Tag("none")])} == {
                each for each in found if each.name == "a"
            }
            assert tx.retention.has_all(row, [Tag("a"), Tag("b")])
            assert tx.retention.has_all(row, [])
            assert not tx.retention.has_all(row, [Tag("a"), Tag("elsewhere")])

    def test_tags_that_are_about_an_image(self, catalog: Catalog) -> None:
        """Named after a manifest of the same repository, whatever follows the digest."""
        here = f"sha256-{MANIFEST.digest.hex}"
        others = [
            f"sha256-{CONFIG.hex}",
            f"sha256-{CONFIG.hex}.sig",
            f"sha512-{MANIFEST.digest.hex}",
            "latest",
        ]
        with catalog.begin() as tx:
            row, empty = push(tx, NAME), tx.repositories.ensure(OTHER).id
            about = [Tag(here), Tag(f"{here}.sig")]
            tags = [*about, *map(Tag, others), *(Tag(f"sha256-{number:064x}") for number in range(250))]
            assert tx.retention.about(row, tags) == {*about}
            assert tx.retention.about(empty, tags) == frozenset()
            assert tx.retention.about(row, []) == frozenset()
