"""Repositories: found, listed, searched, removed."""

import random
from itertools import product

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Blobs, Manifests, Repositories, Tags, Uploads, V1Images
from dualreg.image.manifest import parse
from dualreg.image.names import RepositoryName, Tag, UploadId
from dualreg.image.v1_image import V1Image
from dualreg.patterns import Reach
from tests.builders import index
from tests.contracts.catalog.rows import (
    CONFIG,
    IMAGE,
    MANIFEST,
    NAME,
    OTHER,
    count,
    image_id,
    link,
    push,
    record,
    v1_row,
)
from tests.soak import short_or_long


class RepositoriesContract:
    """Repositories: found, listed, searched, removed."""

    def test_ensure_makes_a_repository_once(self, catalog: Catalog) -> None:
        """The same name is the same repository, whoever asks first."""
        with catalog.begin() as tx:
            made = tx.repositories.ensure(NAME)
        with catalog.begin() as tx:
            assert tx.repositories.ensure(NAME) == made
            assert tx.repositories.ensure(OTHER).id != made.id
            assert tx.repositories.find(NAME) == made
            assert count(tx, Repositories) == 2

    def test_where_content_comes_from(self, catalog: Catalog) -> None:
        """It is recorded of a repository, and can change."""
        with catalog.begin() as tx:
            made, _ = tx.repositories.ensure(NAME), tx.repositories.ensure(OTHER)
            assert tx.repositories.upstream(NAME) is None
            for url in ("https://a", "https://b", None):
                tx.repositories.record_upstream(made.id, url)
                assert tx.repositories.upstream(NAME) == url
            tx.repositories.record_upstream(made.id, "https://a")
            assert tx.repositories.upstream(OTHER) is None

    def test_find_takes_the_first_name_that_exists(self, catalog: Catalog) -> None:
        """The order of the names decides, not that of the rows."""
        with catalog.begin() as tx:
            rows = {name: tx.repositories.ensure(name) for name in (NAME, OTHER)}
        absent = RepositoryName("absent")
        with catalog.read() as tx:
            assert tx.repositories.find(OTHER, NAME) == rows[OTHER]
            assert tx.repositories.find(absent, NAME, OTHER) == rows[NAME]
            assert tx.repositories.find(absent) is None

    def test_repositories_are_listed_in_byte_order(self, catalog: Catalog) -> None:
        """Pages follow each other by bytes, whatever the language; empty repositories are hidden."""
        names = [RepositoryName(text) for text in sorted({"z", "a-b", "a.b", "a/b", "a0", "a_b", "ab", "a"})]
        with catalog.begin() as tx:
            for number, name in enumerate(reversed(names)):
                push(tx, name, *["latest"][: number % 2])  # with a tag, or a manifest alone
            tx.repositories.ensure(RepositoryName("empty"))
        with catalog.read() as tx:
            walked = [*tx.repositories.walk(last="", limit=100)]
            assert [name for name, holds_an_image in walked if holds_an_image] == names
            assert [name for name, holds_an_image in walked if not holds_an_image] == ["empty"]
            assert [*tx.repositories.walk(last="", limit=3)] == walked[:3]
            assert [*tx.repositories.walk(last="", limit=100, enough=1)] == walked
            for position, (name, _) in enumerate(walked):
                assert [*tx.repositories.walk(last=name, limit=2)] == walked[position + 1 : position + 3]
            assert [*tx.repositories.walk(last="a.", limit=1)] == [("a.b", True)]

    def test_v1_images_make_a_repository_visible_once_complete(self, catalog: Catalog) -> None:
        """A repository that only V1 pushed to is listed when its first image is complete."""
        with catalog.begin() as tx:
            repository_id = tx.repositories.ensure(NAME).id
            link(tx, repository_id, IMAGE.config, *IMAGE.layers)
            tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), CONFIG)
            assert [*tx.repositories.walk(last="", limit=1)] == [(NAME, False)]
            tx.v1_images.record(v1_row(repository_id, 1))
            assert [*tx.repositories.walk(last="", limit=1)] == [(NAME, True)]

    @pytest.mark.parametrize(
        ("term", "expected"),
        [
            ("", ["a-b", "a_b", "axb", "lib/a_b"]),
            ("a", ["a-b", "a_b", "axb", "lib/a_b"]),
            ("a_b", ["a_b", "lib/a_b"]),
            ("_", ["a_b", "lib/a_b"]),
            ("%", []),
            ("a%b", []),
            ("/", ["lib/a_b"]),
            ("\\", []),
            ("'", []),
        ],
    )
    def test_search_takes_terms_literally(self, catalog: Catalog, term: str, expected: list[str]) -> None:
        """No character of a term is a wildcard; repositories without an image are not found."""
        with catalog.begin() as tx:
            for name in ("a-b", "a_b", "axb", "lib/a_b"):
                push(tx, RepositoryName(name))
            tx.repositories.ensure(RepositoryName("empty_a_b"))
        with catalog.read() as tx:
            assert tx.repositories.search(term, offset=0, limit=10) == (len(expected), tuple(expected))

    def test_search_goes_by_pages(self, catalog: Catalog) -> None:
        """The total is that of all matches, whatever page is asked for."""
        with catalog.begin() as tx:
            for name in ("xa", "xb", "xc", "y"):
                push(tx, RepositoryName(name))
        with catalog.read() as tx:
            assert tx.repositories.search("x", offset=1, limit=1) == (3, (RepositoryName("xb"),))
            assert tx.repositories.search("x", offset=9, limit=1) == (3, ())

    def test_removing_a_repository_takes_all_it_holds(self, catalog: Catalog) -> None:
        """Its manifests, tags, images, links and uploads go; blobs and other repositories stay."""
        upload, other_upload = UploadId.new(), UploadId.new()
        with catalog.begin() as tx:
            mine, other = push(tx, NAME, "a"), push(tx, OTHER, "a")
            record(tx, mine, parse("", index(IMAGE, IMAGE)))
            tx.v1_images.record(v1_row(mine, 1))
            tx.v1_images.record(v1_row(mine, 2, 1))
            tx.v1_images.record(v1_row(other, 1))
            tx.views.record(mine, MANIFEST.digest, image_id(2))
            tx.uploads.start(mine, upload)
            tx.uploads.start(other, other_upload)
            assert tx.repositories.remove(mine) == [(upload, "")]
            assert tx.repositories.find(NAME) is None
            assert tx.manifests.find(OTHER, Tag("a")) is not None
            assert tx.v1_images.list(OTHER) == (image_id(1),)
            assert tx.uploads.find(OTHER, other_upload) is not None
            counts = [count(tx, table) for table in (Tags, Manifests, V1Images, Uploads, Repositories)]
            assert counts == [1] * 5
            assert count(tx, Blobs) == len(IMAGE.blobs) + 2

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_lock_finds_a_repository(self, catalog: Catalog, *, exclusive: bool) -> None:
        """Locking tells whether the repository is there, and makes none."""
        with catalog.begin() as tx:
            assert tx.repositories.lock(NAME, exclusive=exclusive) is None
            made = tx.repositories.ensure(NAME, exclusive=exclusive)
            assert tx.repositories.lock(NAME, exclusive=exclusive) == made
            assert count(tx, Repositories) == 1

    @pytest.mark.parametrize("many", [0, 150, 1500])
    def test_repositories_within_reach(self, catalog: Catalog, many: int) -> None:
        """By name or pattern, of each group; however many patterns there are."""
        names = [*map(RepositoryName, ["a/b", "a/c", "ab", "a_b/c", "axb/c", "b"])]
        with catalog.begin() as tx:
            for name in names:
                push(tx, name, "t")
        more = tuple(f"none{number}/*" for number in range(many))
        for groups, expected in (
            ((), names),
            ((("*",),), names),
            ((("a/*", "b"),), ["a/b", "a/c", "b"]),
            ((("a_b/*",),), ["a_b/c"]),
            ((("*b*",), ("a/*", "ab")), ["a/b", "ab"]),
            (((),), []),
        ):
            reach = Reach(tuple((*group, *more) for group in groups))
            with catalog.read() as tx:
                walked = [name for name, _ in tx.repositories.walk(last="", limit=99, reach=reach)]
                assert walked == sorted(expected)
                found = tx.repositories.search("", offset=0, limit=99, reach=reach)
                assert found == (len(expected), tuple(sorted(expected)))

    def test_levels_of_names(self, catalog: Catalog) -> None:
        """Page by page, as sorting all names and cutting them says; only names in reach count."""
        chance = random.Random(7)  # noqa: S311 -- a repeatable choice
        words, number = ["a", "a-b", "a.x", "a_b", "b", "b0", "c"], short_or_long(50, 150)
        names = {"/".join(chance.choices(words, k=chance.randint(1, 4))) for _ in range(number)}
        with catalog.begin() as tx:
            for name in names:
                tx.repositories.ensure(RepositoryName(name))
        reaches = [Reach(), Reach((("a/*", "b0", "c*"),)), Reach((("*/b",), ("a*",))), Reach(((),))]
        spaces = ["", *(f"{name.rpartition('/')[0]}/" for name in names if "/" in name), "none/"]
        with catalog.read() as tx:
            for reach, under, size in product(
                reaches, sorted({*spaces})[:: short_or_long(3, 1)], (1, 3, 200)
            ):
                below = [
                    name[len(under) :] for name in names if name.startswith(under) and reach.covers(name)
                ]
                heads = {name.partition("/")[0] + name.partition("/")[1] for name in below}
                expected, found, after = sorted(under + head for head in heads), list[str](), ""
                while page := tx.usage.level(under, after, reach, size):
                    found, after = [*found, *page], page[-1]
                    assert len(page) <= size
                assert found == expected, (reach, under, size)
