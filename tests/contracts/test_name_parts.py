"""The index of parts of names: made, kept, and done without, by what the SQLite of a Python can do."""

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from dualreg.catalog import name_parts
from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach

pytestmark = pytest.mark.sqlite
#: Whatever the text is, all that do not match are looked at one by one without the index.
_REACH = Reach((("*part-1*",),))


def _make(catalog: Catalog, *numbers: int) -> None:
    with catalog.begin() as tx:
        for number in numbers:
            tx.repositories.ensure(RepositoryName(f"team/part-{number}"))


def _found(catalog: Catalog) -> list[str]:
    with catalog.read() as tx:
        return [*tx.usage.names("", _REACH, 1000)]


def _is_whole(catalog: Catalog) -> bool:
    with catalog.read() as tx:
        return name_parts.is_whole(tx.connection)


def _indexed(catalog: Catalog) -> int:
    with catalog.read() as tx:
        return int(tx.connection.scalar(text("SELECT count(*) FROM repository_parts_docsize")) or 0)


def test_repositories_are_added_by_the_hundred(catalog: Catalog) -> None:
    """And the rest at the next start; what is deleted goes at once."""
    _make(catalog, *range(300))
    assert _indexed(catalog) == 256
    upgrade(catalog)
    assert _indexed(catalog) == 300
    with catalog.begin() as tx:
        tx.connection.execute(text("DELETE FROM repositories WHERE id > 200"))
    assert _indexed(catalog) == 200
    assert _is_whole(catalog)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TRIGGER repository_parts_delete",
        "DROP TABLE repository_parts",
        "DELETE FROM repository_parts_docsize WHERE id = 3",
        "DROP TRIGGER repository_parts_delete; DELETE FROM repositories WHERE id = 2",
    ],
)
def test_an_index_that_is_not_whole_is_made_again(catalog: Catalog, damage: str) -> None:
    """By the next upgrade; the check of the catalog says so before."""
    _make(catalog, *range(20))
    upgrade(catalog)
    with catalog.begin() as tx:
        for statement in damage.split(";"):
            tx.connection.execute(text(statement))
    with catalog.read() as tx:
        ((where, advice),) = name_parts.flaws(tx.connection)
    assert (where, "run `dualreg db upgrade`" in advice) == ("repository_parts", True)
    upgrade(catalog)
    assert _is_whole(catalog)
    with catalog.read() as tx:
        assert [*name_parts.flaws(tx.connection)] == []


def test_an_sqlite_without_trigrams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing needs the index; another Python that can have it makes it again, of all that is there."""
    url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
    with closing(Catalog(url)) as catalog:
        upgrade(catalog)
        _make(catalog, 1, 2)
    with monkeypatch.context() as patch, closing(Catalog(url)) as catalog:
        patch.setattr(name_parts, "is_possible", lambda: False)
        upgrade(catalog)
        _make(catalog, 10, 11)
        with catalog.begin() as tx:
            tx.connection.execute(text("DELETE FROM repositories WHERE name = 'team/part-1'"))
            names = tx.connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
            assert names == []
            assert [*name_parts.flaws(tx.connection)] == []
        assert _found(catalog) == ["team/part-10", "team/part-11"]
        assert not _is_whole(catalog)
    with closing(Catalog(url)) as catalog:
        upgrade(catalog)
        assert (_indexed(catalog), _is_whole(catalog)) == (3, True)
        assert _found(catalog) == ["team/part-10", "team/part-11"]
