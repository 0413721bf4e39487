"""Names of repositories: found by what they contain."""

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from dualreg.catalog import name_parts
from dualreg.catalog import usage as usage_module
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.tables import Repositories
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach
from tests.contracts.catalog.rows import push
from tests.soak import short_or_long

#: What names consist of here: some parts are in many names, some in few, some across the others.
_WORDS = ("web", "api", "ab", "a", "back-end", "e2e", "lib_x", "x.y", "qq", "0", "team", "web")
#: What is searched for: also at the ends of names, of one or two characters, across words, and in none.
_TEXTS = (
    "web", "eb", "b/a", "k-e", "qq", "q", "/", "_", "%", "m/web", "back-end", "team*web", "nothing", "zz",
    "x.y", "we%", "é", "a@b", "web*e2e*q", "ab",
)  # fmt: skip
#: Names that are looked at first, what counts as few and as enough, and how many are added at once.
_LIMITS = {"all": (10_000, 30_000, 500, 256), "index": (2, 30_000, 0, 4), "many": (3, 4, 1, 1)}


def _names(rng: random.Random, number: int) -> Iterator[RepositoryName]:
    for _ in range(number):
        words = rng.choices(_WORDS, k=rng.randint(1, 4))
        yield RepositoryName(rng.choice("/-").join(words))


class NamesContract:
    """Names of repositories: found by what they contain."""

    @pytest.mark.parametrize("limits", _LIMITS)
    def test_names_are_found_by_what_they_contain(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, limits: str
    ) -> None:
        """On pages, in byte order, by each way to find them, while repositories come, go, and get names."""
        near, few, enough, batch = _LIMITS[limits]
        monkeypatch.setattr(usage_module, "_NEAR", near)
        for name, value in (("_FEW", few), ("_ENOUGH", enough), ("_BATCH", batch)):
            monkeypatch.setattr(name_parts, name, value)
        rng, there = random.Random(limits), set[RepositoryName]()  # noqa: S311 -- no secret
        for turn in range(short_or_long(2, 12)):
            with catalog.begin() as tx:
                there = _change(tx, rng, there, turn)
            with catalog.read() as tx:
                for text in _TEXTS:
                    _compare(tx, rng, there, text)

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", {"a": "1.2", "b": "1.2"}),
            ("1.2", {"a": "1.2", "b": "1.2"}),
            ("1.20", {"a": "1.20"}),
            ("V", {"a": "V1"}),
            ("v", {"b": "v1"}),
            ("~", {}),
            ("é", {}),
            ("1\0", {}),
            ("%", {}),
        ],
    )
    def test_the_first_tag_that_begins_with_a_text(
        self, catalog: Catalog, prefix: str, expected: dict[str, str]
    ) -> None:
        """Of some repositories, in byte order: the tag itself, if there is one of that name."""
        with catalog.begin() as tx:
            push(tx, RepositoryName("b"), "v1", "1.3", "1.2")
            push(tx, RepositoryName("a"), "1.20", "1.2", "V1")
            push(tx, RepositoryName("c"))
            push(tx, RepositoryName("d"), "1.2")
        with catalog.read() as tx:
            assert tx.usage.first_tags(["c", "b", "a", "none"], prefix) == [*expected.items()]


def _change(
    tx: Transaction, rng: random.Random, there: set[RepositoryName], turn: int
) -> set[RepositoryName]:
    """Make some repositories, then delete some, and give one another name, as copies of catalogs do."""
    new = {*_names(rng, 12)}
    for name in new - there:
        push(tx, name)
    going = {*rng.sample(sorted(there), min(len(there), 4))}
    for name in going:
        row = tx.repositories.find(name)
        assert row
        tx.repositories.remove(row.id)
    there = (there | new) - going
    old, other = rng.choice(sorted(there)), RepositoryName(f"renamed/{turn}-qq")
    tx.connection.execute(update(Repositories).where(Repositories.name == old).values(name=other))
    return (there - {old}) | {other}


def _compare(tx: Transaction, rng: random.Random, there: set[RepositoryName], text: str) -> None:
    """Compare pages of names, and of a search, with what a look at all names finds."""
    for groups in ((), (("*a*", "renamed/*"),), (("team*",),)):
        reach = Reach((*groups, (f"*{text}*",)))
        matching = sorted(name for name in there if reach.covers(name))
        for after in ("", rng.choice(sorted(there))):
            limit = rng.choice([1, 2, 100])
            expected = [name for name in matching if name > after][:limit]
            assert [*tx.usage.names(after, reach, limit)] == expected
        if "*" not in text:
            offset = rng.randint(0, 3)
            page = tuple(matching[offset : offset + 2])
            assert tx.repositories.search(text, offset=offset, limit=2, reach=Reach(groups)) == (
                len(matching),
                page,
            )
