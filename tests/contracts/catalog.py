"""What the catalog must do over every database; each database's test file inherits it."""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import (
    AccountRow,
    BlobRow,
    ClientRow,
    ManifestRow,
    Origin,
    PermissionRow,
    SecretRow,
    UploadRow,
    V1ImageRow,
)
from dualreg.catalog.tables import (
    Accounts,
    Blobs,
    Forgotten,
    GroupMembers,
    LoginFailures,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    Permissions,
    Repositories,
    RepositoryBlobs,
    Secrets,
    SigningKeys,
    Table,
    Tags,
    Uploads,
    V1Clients,
    V1Images,
)
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest, parse
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId
from dualreg.image.reach import EVERYWHERE, Reach
from dualreg.image.v1_image import V1Image
from dualreg.registry.keys import Keys
from tests.builders import image, index, layer
from tests.conftest import Clock

NAME, OTHER = RepositoryName("library/x"), RepositoryName("library/y")
#: Names whose order differs between bytes and every natural language.
ODD_ORDER = ["A", "B", "Z", "_", "__", "_a", "a", "a-b", "a.b", "a0", "a_b", "ab", "b", "z"]
IMAGE = image(layer({"a": b"1"}), layer({"b": b"2"}))
MANIFEST = parse(IMAGE.media_type, IMAGE.manifest)
CONFIG, LOWER, UPPER = (child.descriptor.digest for child in MANIFEST.children)
MISSING = Digest.of(b"missing")
LEASE = timedelta(seconds=30)


def _id(number: int) -> ImageId:
    return ImageId(f"{number:064x}")


def _link(tx: Transaction, repository_id: int, *blobs: bytes) -> None:
    for blob in blobs:
        tx.blobs.claim(Digest.of(blob), len(blob))
        tx.blobs.link(repository_id, Digest.of(blob))


def _record(tx: Transaction, repository_id: int, manifest: Manifest, *blobs: bytes) -> None:
    _link(tx, repository_id, manifest.payload, *blobs)
    tx.manifests.record(repository_id, manifest)
    tx.manifests.record_children(repository_id, manifest.digest, manifest.children)


def _push(tx: Transaction, name: RepositoryName = NAME, *tags: str) -> int:
    """Record IMAGE with its blobs and *tags*, and return the repository's id."""
    repository_id = tx.repositories.ensure(name).id
    _record(tx, repository_id, MANIFEST, *IMAGE.blobs.values())
    tx.tags.point(repository_id, [Tag(tag) for tag in tags], MANIFEST.digest)
    return repository_id


def _artifact(number: int) -> Manifest:
    return parse("application/x", b'{"number": %d}' % number)


def _v1_row(repository_id: int, number: int, parent: int | None = None) -> V1ImageRow:
    """Return a complete V1 image over blobs that ``_push`` links."""
    size = len(IMAGE.layers[0])
    above = None if parent is None else _id(parent)
    return V1ImageRow(
        repository_id, _id(number), above, CONFIG, LOWER, size, MISSING, Digest.of(b"checksum"), complete=True
    )


def _found(tx: Transaction, number: int) -> V1ImageRow:
    row = tx.v1_images.find(NAME, _id(number))
    assert row
    return row


def _count(tx: Transaction, table: type[Table]) -> int:
    return tx.repositories.connection.scalar(select(func.count()).select_from(table)) or 0


class CatalogContract:
    """The promises of Transaction; a database's test class may override the ``catalog`` fixture."""

    # --- transactions

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\U0010ffff", "'", "é", "\ufffd"], ids=ascii)
    def test_texts_of_clients_never_fail(self, catalog: Catalog, text: str) -> None:
        """Where a list begins and what is searched for come from clients as they like."""
        with catalog.begin() as tx:
            _push(tx, NAME, "v1")
        with catalog.read() as tx:
            assert len(tx.tags.list(NAME, last=text, limit=1) or ()) <= 1
            assert len([*tx.repositories.walk(last=text, limit=1)]) <= 1
            assert tx.repositories.search(text, offset=0, limit=1) == (0, ())
            assert [*tx.referrers.walk(NAME, CONFIG, artifact_type=text, after=None, limit=99)] == []

    def test_a_nul_in_a_page_s_beginning_sorts_where_it_should(self, catalog: Catalog) -> None:
        """What follows ``a``, a NUL and more is what follows ``a``, whatever the database makes of NULs."""
        with catalog.begin() as tx:
            _push(tx, NAME, "a", "b")
            assert tx.tags.list(NAME, last="a\0b", limit=None) == (Tag("b"),)
            assert tx.tags.list(NAME, last="\0", limit=None) == (Tag("a"), Tag("b"))

    def test_a_block_that_raises_leaves_nothing(self, catalog: Catalog) -> None:
        """Everything of a transaction commits together, or not at all."""

        def fail() -> None:
            with catalog.begin() as tx:
                _push(tx, NAME, "v1")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        with catalog.read() as tx:
            assert tx.repositories.find(NAME) is None
            assert _count(tx, Blobs) == 0

    def test_rows_are_dated_by_the_clock(self, catalog: Catalog, clock: Clock) -> None:
        """Instants are the catalog's own clock's, and come back aware and in UTC."""
        with catalog.begin() as tx:
            _push(tx)
        with catalog.read() as tx:
            connection = tx.repositories.connection
            for column in (Repositories.created_at, Blobs.created_at, Manifests.pushed_at):
                found = connection.scalars(select(column)).first()
                assert found == clock.instant
                assert found is not None
                assert found.utcoffset() == timedelta()

    # --- repositories

    def test_ensure_makes_a_repository_once(self, catalog: Catalog) -> None:
        """The same name is the same repository, whoever asks first."""
        with catalog.begin() as tx:
            made = tx.repositories.ensure(NAME)
        with catalog.begin() as tx:
            assert tx.repositories.ensure(NAME) == made
            assert tx.repositories.ensure(OTHER).id != made.id
            assert tx.repositories.find(NAME) == made
            assert _count(tx, Repositories) == 2

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
            for name in reversed(names):
                _push(tx, name)
            tx.repositories.ensure(RepositoryName("empty"))
        with catalog.read() as tx:
            walked = [*tx.repositories.walk(last="", limit=100)]
            assert [name for name, holds_an_image in walked if holds_an_image] == names
            assert [name for name, holds_an_image in walked if not holds_an_image] == ["empty"]
            assert [*tx.repositories.walk(last="", limit=3)] == walked[:3]
            for position, (name, _) in enumerate(walked):
                assert [*tx.repositories.walk(last=name, limit=2)] == walked[position + 1 : position + 3]
            assert [*tx.repositories.walk(last="a.", limit=1)] == [("a.b", True)]

    def test_v1_images_make_a_repository_visible_once_complete(self, catalog: Catalog) -> None:
        """A repository that only V1 pushed to is listed when its first image is complete."""
        with catalog.begin() as tx:
            repository_id = tx.repositories.ensure(NAME).id
            _link(tx, repository_id, IMAGE.config, *IMAGE.layers)
            tx.v1_images.begin(repository_id, V1Image(_id(1), None, b""), CONFIG)
            assert [*tx.repositories.walk(last="", limit=1)] == [(NAME, False)]
            tx.v1_images.record(_v1_row(repository_id, 1))
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
                _push(tx, RepositoryName(name))
            tx.repositories.ensure(RepositoryName("empty_a_b"))
        with catalog.read() as tx:
            assert tx.repositories.search(term, offset=0, limit=10) == (len(expected), tuple(expected))

    def test_search_goes_by_pages(self, catalog: Catalog) -> None:
        """The total is that of all matches, whatever page is asked for."""
        with catalog.begin() as tx:
            for name in ("xa", "xb", "xc", "y"):
                _push(tx, RepositoryName(name))
        with catalog.read() as tx:
            assert tx.repositories.search("x", offset=1, limit=1) == (3, (RepositoryName("xb"),))
            assert tx.repositories.search("x", offset=9, limit=1) == (3, ())

    def test_removing_a_repository_takes_all_it_holds(self, catalog: Catalog) -> None:
        """Its manifests, tags, images, links and uploads go; blobs and other repositories stay."""
        upload, other_upload = UploadId.new(), UploadId.new()
        with catalog.begin() as tx:
            mine, other = _push(tx, NAME, "a"), _push(tx, OTHER, "a")
            _record(tx, mine, parse("", index(IMAGE, IMAGE)))
            tx.v1_images.record(_v1_row(mine, 1))
            tx.v1_images.record(_v1_row(mine, 2, 1))
            tx.v1_images.record(_v1_row(other, 1))
            tx.views.record(mine, MANIFEST.digest, _id(2))
            tx.uploads.start(mine, upload)
            tx.uploads.start(other, other_upload)
            assert tx.repositories.remove(mine) == (upload,)
            assert tx.repositories.find(NAME) is None
            assert tx.manifests.find(OTHER, Tag("a")) is not None
            assert tx.v1_images.list(OTHER) == (_id(1),)
            assert tx.uploads.find(OTHER, other_upload) is not None
            counts = [_count(tx, table) for table in (Tags, Manifests, V1Images, Uploads, Repositories)]
            assert counts == [1] * 5
            assert _count(tx, Blobs) == len(IMAGE.blobs) + 2

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_lock_finds_a_repository(self, catalog: Catalog, *, exclusive: bool) -> None:
        """Locking tells whether the repository is there, and makes none."""
        with catalog.begin() as tx:
            assert tx.repositories.lock(NAME, exclusive=exclusive) is None
            made = tx.repositories.ensure(NAME, exclusive=exclusive)
            assert tx.repositories.lock(NAME, exclusive=exclusive) == made
            assert _count(tx, Repositories) == 1

    # --- tags

    def test_tags_are_listed_in_byte_order(self, catalog: Catalog) -> None:
        """Upper case before underscore before lower case, on every database; ``last`` need not exist."""
        assert sorted(ODD_ORDER) == ODD_ORDER
        with catalog.begin() as tx:
            _push(tx, NAME, *reversed(ODD_ORDER))
            _push(tx, OTHER, "not-mine")
        with catalog.read() as tx:
            assert tx.tags.list(NAME, last="", limit=None) == tuple(ODD_ORDER)
            assert tx.tags.list(NAME, last="", limit=2) == tuple(ODD_ORDER[:2])
            for position, tag in enumerate(ODD_ORDER):
                assert tx.tags.list(NAME, last=tag, limit=3) == tuple(ODD_ORDER[position + 1 : position + 4])
            assert tx.tags.list(NAME, last="a/", limit=1) == (Tag("a0"),)

    def test_no_tags_is_not_no_repository(self, catalog: Catalog) -> None:
        """An empty list tells a repository without tags, None that there is no such repository."""
        with catalog.begin() as tx:
            _push(tx)
            assert tx.tags.list(NAME, last="", limit=None) == ()
            assert tx.tags.list(NAME, last="", limit=2) == ()
            assert tx.tags.list(OTHER, last="", limit=None) is None

    def test_tags_point_move_and_go(self, catalog: Catalog) -> None:
        """A tag points at the last manifest it was given; only the one asked for is removed."""
        other = _artifact(1)
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a", "b", "c")
            _record(tx, repository_id, other)
            tx.tags.point(repository_id, [Tag("b"), Tag("d")], other.digest)
            tx.tags.point(repository_id, [], other.digest)
            assert sorted(tx.tags.pointing_at(repository_id, MANIFEST.digest)) == ["a", "c"]
            assert sorted(tx.tags.pointing_at(repository_id, other.digest)) == ["b", "d"]
            assert tx.tags.remove(repository_id, Tag("a")) is True
            assert tx.tags.remove(repository_id, Tag("a")) is False
            assert tx.tags.list(NAME, last="", limit=None) == ("b", "c", "d")
            assert sorted(tx.tags.clear(repository_id)) == ["b", "c", "d"]
            assert tx.tags.clear(repository_id) == ()

    def test_tags_are_case_sensitive(self, catalog: Catalog) -> None:
        """Two tags that differ in case are two tags."""
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "Latest", "latest")
            assert tx.tags.remove(repository_id, Tag("LATEST")) is False
            assert tx.tags.remove(repository_id, Tag("Latest")) is True
            assert tx.manifests.find(NAME, Tag("Latest")) is None
            assert tx.manifests.find(NAME, Tag("latest")) is not None

    def test_tags_are_described(self, catalog: Catalog, clock: Clock) -> None:
        """By name or newest first, from a prefix, after the last one seen, with what they point at."""
        times = {}
        for name in ("b", "a", "Ab", "a_", "aB"):
            with catalog.begin() as tx:
                _push(tx, NAME, name)
                _push(tx, OTHER, "not-mine")
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

    def test_a_pull_is_recorded_with_its_tag(self, catalog: Catalog, clock: Clock) -> None:
        """Only the tag that was pulled is dated; moving it afterwards keeps the date."""
        with catalog.begin() as tx:
            _push(tx, NAME, "a", "b")
        pulled_at = clock.instant = clock.instant + timedelta(hours=1)
        with catalog.begin() as tx:
            tx.tags.touch({(NAME, Tag("a")): pulled_at, (NAME, Tag("absent")): pulled_at})
        with catalog.begin() as tx:
            _push(tx, NAME, "a")
            rows = tx.tags.describe(NAME, prefix="", newest_first=False, after=None, limit=9)
            assert {row.name: row.pulled_at for row in rows} == {"a": pulled_at, "b": None}

    @pytest.mark.parametrize("many", [0, 150, 3000])
    def test_repositories_within_reach(self, catalog: Catalog, many: int) -> None:
        """By name or pattern, of each group; however many patterns there are."""
        names = [*map(RepositoryName, ["a/b", "a/c", "ab", "a_b/c", "axb/c", "b"])]
        with catalog.begin() as tx:
            for name in names:
                _push(tx, name, "t")
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

    # --- blobs

    def test_a_blob_is_found_wherever_it_is_linked(self, catalog: Catalog) -> None:
        """A blob that nobody may read is not found anywhere."""
        with catalog.begin() as tx:
            tx.blobs.claim(LOWER, 3)
            assert tx.blobs.owner(LOWER, EVERYWHERE) is None
            for name in (NAME, OTHER):
                tx.blobs.link(tx.repositories.ensure(name).id, LOWER)
            assert tx.blobs.owner(LOWER, EVERYWHERE) in (NAME, OTHER)
            for name in (NAME, OTHER):
                assert tx.blobs.owner(LOWER, Reach(((name,),))) == name
            assert tx.blobs.owner(LOWER, Reach((("nobody/*",),))) is None
            assert tx.blobs.owner(MISSING, EVERYWHERE) is None

    def test_claim_records_once_and_tells_the_first_size(self, catalog: Catalog) -> None:
        """A digest that is known keeps its size, so that a caller can see a contradiction."""
        with catalog.begin() as tx:
            assert tx.blobs.claim(CONFIG, 5) == 5
            assert tx.blobs.claim(CONFIG, 7) == 5
            assert tx.blobs.claim(LOWER, 2**40) == 2**40
            assert _count(tx, Blobs) == 2

    def test_claim_revives_a_condemned_blob(self, catalog: Catalog, clock: Clock) -> None:
        """A blob on its way out is kept when somebody pushes it again."""
        with catalog.begin() as tx:
            tx.blobs.claim(CONFIG, 5)
            connection = tx.blobs.connection
            connection.execute(Blobs.__table__.update().values(condemned_at=clock.instant))  # type: ignore[attr-defined]
            tx.blobs.claim(CONFIG, 5)
            assert connection.scalars(select(Blobs.condemned_at)).all() == [None]

    def test_a_blob_is_read_through_its_link(self, catalog: Catalog) -> None:
        """Only the repository that was given a blob finds it."""
        with catalog.begin() as tx:
            mine, other = (tx.repositories.ensure(name).id for name in (NAME, OTHER))
            _link(tx, mine, IMAGE.config)
            tx.blobs.claim(LOWER, 3)
            size = len(IMAGE.config)
            assert tx.blobs.find(NAME, CONFIG) == BlobRow(CONFIG, size)
            assert tx.blobs.find(OTHER, CONFIG) is None
            assert tx.blobs.find(NAME, LOWER) is None
            assert tx.blobs.find(RepositoryName("absent"), CONFIG) is None
            assert tx.blobs.linked(mine, [CONFIG, LOWER, MISSING]) == {CONFIG: size}
            assert tx.blobs.linked(mine, []) == {}
            assert tx.blobs.linked(other, [CONFIG]) == {}
            assert tx.blobs.lock(mine, CONFIG) is True
            assert tx.blobs.lock(other, CONFIG) is False

    def test_linking_again_renews_the_link(self, catalog: Catalog, clock: Clock) -> None:
        """A link is dated by the last time it was asked for."""
        with catalog.begin() as tx:
            _link(tx, tx.repositories.ensure(NAME).id, IMAGE.config)
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            _link(tx, tx.repositories.ensure(NAME).id, IMAGE.config)
            assert tx.blobs.connection.scalars(select(RepositoryBlobs.linked_at)).all() == [clock.instant]

    def test_unlink_takes_what_nothing_names(self, catalog: Catalog) -> None:
        """An unused link goes, once; those of other repositories stay."""
        with catalog.begin() as tx:
            mine, other = (tx.repositories.ensure(name).id for name in (NAME, OTHER))
            for repository_id in (mine, other):
                _link(tx, repository_id, IMAGE.config)
            assert tx.blobs.unlink(mine, CONFIG, MISSING) == (CONFIG,)
            assert tx.blobs.unlink(mine, CONFIG) == ()
            assert tx.blobs.find(OTHER, CONFIG) is not None

    def test_unlink_leaves_what_is_named(self, catalog: Catalog) -> None:
        """Manifests, their children, and V1 images keep their blobs, and can be asked for by them."""
        with catalog.begin() as tx:
            repository_id = _push(tx)
            blobs = (b"json", b"v1 layer")
            _link(tx, repository_id, *blobs)
            json, v1_layer = map(Digest.of, blobs)
            row = V1ImageRow(repository_id, _id(1), None, json, v1_layer, 8, MISSING, None, complete=True)
            tx.v1_images.record(row)
            for digest in (MANIFEST.digest, CONFIG, LOWER, UPPER, json, v1_layer):
                assert tx.blobs.unlink(repository_id, digest) == ()
            named = {digest: tx.blobs.referrers(repository_id, digest) for digest in (CONFIG, json, v1_layer)}
            assert named == {CONFIG: (str(MANIFEST.digest),), json: (_id(1),), v1_layer: (_id(1),)}

    def test_referrers_are_of_the_repository(self, catalog: Catalog) -> None:
        """What another repository's manifests name does not count here; both kinds of referrers do."""
        with catalog.begin() as tx:
            _push(tx, OTHER)
            mine = tx.repositories.ensure(NAME).id
            _link(tx, mine, *IMAGE.blobs.values())
            assert tx.blobs.referrers(mine, LOWER) == ()
            assert tx.blobs.unlink(mine, LOWER) == (LOWER,)
            _push(tx, NAME)
            tx.v1_images.record(_v1_row(mine, 1))
            assert tx.blobs.referrers(mine, LOWER) == (str(MANIFEST.digest), _id(1))

    @pytest.mark.parametrize(
        ("table", "column", "value"),
        [
            (RepositoryBlobs, RepositoryBlobs.digest, MANIFEST.digest),
            (RepositoryBlobs, RepositoryBlobs.digest, CONFIG),
            (RepositoryBlobs, RepositoryBlobs.digest, LOWER),
            (RepositoryBlobs, RepositoryBlobs.digest, Digest.of(b"json")),
            (RepositoryBlobs, RepositoryBlobs.digest, Digest.of(b"v1 layer")),
            (Blobs, Blobs.digest, MANIFEST.digest),
            (Blobs, Blobs.digest, Digest.of(b"json")),
            (Repositories, Repositories.name, NAME),
        ],
        ids=["manifest", "config", "layer", "V1 json", "V1 layer", "blob", "V1 blob", "repository"],
    )
    def test_the_database_refuses_to_forget_what_is_named(
        self, catalog: Catalog, table: type[Table], column: object, value: object
    ) -> None:
        """Whatever our own code believes: rows that others name cannot be deleted."""
        with catalog.begin() as tx:
            repository_id = _push(tx)
            _link(tx, repository_id, b"json", b"v1 layer")
            json, v1_layer = Digest.of(b"json"), Digest.of(b"v1 layer")
            row = V1ImageRow(repository_id, _id(1), None, json, v1_layer, 8, MISSING, None, complete=True)
            tx.v1_images.record(row)
        with pytest.raises(IntegrityError), catalog.begin() as tx:
            tx.blobs.connection.execute(delete(table).where(column == value))  # type: ignore[arg-type]

    def test_the_database_refuses_to_name_what_is_not_there(self, catalog: Catalog) -> None:
        """Links, manifests, children, tags, views and V1 images need what they point at."""
        stranger = _artifact(1)
        with catalog.begin() as tx:
            repository_id = _push(tx)

        for name in (
            lambda tx: tx.blobs.link(repository_id, MISSING),
            lambda tx: tx.blobs.link(repository_id + 1, CONFIG),
            lambda tx: tx.manifests.record(repository_id, stranger),
            lambda tx: tx.manifests.record_children(repository_id, stranger.digest, MANIFEST.children),
            lambda tx: tx.tags.point(repository_id, [Tag("v1")], stranger.digest),
            lambda tx: tx.uploads.start(repository_id + 1, UploadId.new()),
            lambda tx: tx.v1_images.begin(repository_id, V1Image(_id(1), None, b""), MISSING),
            lambda tx: tx.views.record(repository_id, stranger.digest, None),
        ):
            with pytest.raises(IntegrityError), catalog.begin() as tx:
                name(tx)

    # --- manifests

    def test_a_manifest_is_found_by_tag_and_digest(self, catalog: Catalog) -> None:
        """In its own repository only, with media type and size."""
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "v1")
            tx.repositories.ensure(OTHER)
            row = ManifestRow(repository_id, MANIFEST.digest, IMAGE.media_type, len(IMAGE.manifest))
            assert tx.manifests.find(NAME, Tag("v1")) == replace(row, origin=Origin.V2)
            assert tx.manifests.find(NAME, MANIFEST.digest) == row
            assert tx.manifests.find(NAME, Tag("v2")) is None
            assert tx.manifests.find(NAME, CONFIG) is None
            assert tx.manifests.find(OTHER, MANIFEST.digest) is None
            assert tx.manifests.find(OTHER, Tag("v1")) is None
            assert tx.manifests.held(repository_id, [MANIFEST.digest, CONFIG]) == {MANIFEST.digest}
            assert tx.manifests.held(repository_id, []) == frozenset()
            assert tx.manifests.lock(repository_id, MANIFEST.digest) is True
            assert tx.manifests.lock(repository_id, CONFIG) is False

    def test_recording_twice_changes_nothing(self, catalog: Catalog, clock: Clock) -> None:
        """A manifest that is pushed again keeps its date and children; duplicates among them count once."""
        twice = image(*[layer({"a": b"1"})] * 2)
        manifest = parse(twice.media_type, twice.manifest)
        pushed_at = clock.instant
        for _ in range(2):
            with catalog.begin() as tx:
                _record(tx, tx.repositories.ensure(NAME).id, manifest, *twice.blobs.values())
            clock.advance(timedelta(hours=1))
        with catalog.read() as tx:
            connection = tx.manifests.connection
            assert connection.scalars(select(Manifests.pushed_at)).all() == [pushed_at]
            children = connection.execute(
                select(ManifestChildren.role, ManifestChildren.position).order_by(ManifestChildren.position)
            )
            assert [tuple(child) for child in children] == [("config", 0), ("layer", 1)]

    def test_a_manifest_without_children(self, catalog: Catalog) -> None:
        """A document that names nothing is a manifest too."""
        manifest = _artifact(1)
        with catalog.begin() as tx:
            _record(tx, tx.repositories.ensure(NAME).id, manifest)
            assert tx.manifests.find(NAME, manifest.digest) is not None
            assert _count(tx, ManifestChildren) == 0

    def test_an_index_is_its_manifests_parent(self, catalog: Catalog) -> None:
        """Who names a manifest can be asked, within a repository."""
        both = parse("", index(IMAGE, IMAGE))
        with catalog.begin() as tx:
            repository_id = _push(tx)
            assert tx.manifests.parents(repository_id, MANIFEST.digest) == ()
            _record(tx, repository_id, both)
            assert tx.manifests.parents(repository_id, MANIFEST.digest) == (both.digest,)
            other_id = _push(tx, OTHER)
            assert tx.manifests.parents(other_id, MANIFEST.digest) == ()

    def test_an_index_waits_for_what_it_names(self, catalog: Catalog) -> None:
        """A manifest that comes later becomes the child of the indexes of its repository that name it."""
        both = parse("", index(IMAGE, IMAGE))
        with catalog.begin() as tx:
            ids = [tx.repositories.ensure(name).id for name in (NAME, OTHER)]
            for repository_id in ids:
                _link(tx, repository_id, both.payload)
                assert tx.manifests.record(repository_id, both)
                tx.manifests.record_missing(repository_id, both.digest, both.children[:1])
                tx.manifests.record_missing(repository_id, both.digest, both.children[:1])
                tx.views.record(repository_id, both.digest, None)
            assert _push(tx) == ids[0]
            tx.manifests.adopt(ids[0], MANIFEST.digest)
            tx.manifests.adopt(ids[0], MANIFEST.digest)
            assert tx.manifests.parents(ids[0], MANIFEST.digest) == (both.digest,)
            assert (_count(tx, MissingChildren), _count(tx, ManifestViews)) == (1, 1)
            tx.manifests.remove(ids[1], both.digest)
            assert _count(tx, MissingChildren) == 0

    def test_derived_images_go_with_what_they_were_derived_from(self, catalog: Catalog) -> None:
        """From the top down, as far as nothing is seen as them or stands on them, and nobody sent them."""
        with catalog.begin() as tx:
            row = tx.repositories.ensure(NAME)
            _push(tx)
            _push(tx, OTHER)
            images = [_v1_row(row.id, 1), *(_v1_row(row.id, number, number - 1) for number in (2, 3, 4, 5))]
            for image_ in images:
                tx.v1_images.record(replace(image_, checksum=None) if image_.id != _id(1) else image_)
            tx.v1_images.record(replace(_v1_row(row.id, 6, 3), checksum=None))

            def prune(number: int) -> list[ImageId]:
                return [gone.id for gone in tx.v1_images.prune(row, _id(number))]

            assert prune(9) == []
            assert prune(4) == []  # 5 stands on it
            tx.views.record(row.id, MANIFEST.digest, _id(4))
            assert prune(5) == [_id(5)]  # 4 is seen
            tx.views.record(row.id, MANIFEST.digest, None)
            assert prune(4) == [_id(4)]  # 6 stands on 3
            assert prune(6) == [_id(6), _id(3), _id(2)]  # 1 was sent
            assert tx.v1_images.list(NAME) == (_id(1),)

    def test_removing_a_manifest_takes_what_hangs_on_it(self, catalog: Catalog) -> None:
        """Tags, children and views go along; blobs, V1 images and other manifests stay."""
        other = _artifact(1)
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a", "b")
            _push(tx, OTHER, "a")
            _record(tx, repository_id, other)
            tx.tags.point(repository_id, [Tag("c")], other.digest)
            tx.v1_images.record(_v1_row(repository_id, 1))
            tx.views.record(repository_id, MANIFEST.digest, _id(1))
            tx.manifests.remove(repository_id, MANIFEST.digest)
            assert tx.manifests.find(NAME, MANIFEST.digest) is None
            assert tx.manifests.find(OTHER, Tag("a")) is not None
            assert tx.tags.list(NAME, last="", limit=None) == ("c",)
            assert _count(tx, ManifestViews) == 0
            assert _count(tx, ManifestChildren) == len(MANIFEST.children)
            assert _count(tx, V1Images) == 1
            assert tx.blobs.find(NAME, MANIFEST.digest) is not None
            tx.manifests.remove(repository_id, MANIFEST.digest)

    def test_referrers_of_a_subject(self, catalog: Catalog, clock: Clock) -> None:
        """In the order they were pushed, by type, after the last one seen; the subject need not exist."""
        subject = {"mediaType": IMAGE.media_type, "digest": str(MISSING), "size": 7}

        def referrer(number: int, kind: str, about: dict[str, object]) -> Manifest:
            document = {**json.loads(index(IMAGE, IMAGE)), "subject": about, "artifactType": kind}
            return parse("", json.dumps(document | {"annotations": {"number": str(number)}}).encode())

        made = [referrer(number, f"x/{number % 2}", subject) for number in range(40)]
        other = referrer(99, "x/0", subject | {"digest": str(CONFIG)})
        for pair in zip(made[::2], made[1::2], strict=True):
            with catalog.begin() as tx:
                repository_id = _push(tx)
                _record(tx, repository_id, other)
                for manifest in pair:
                    _record(tx, repository_id, manifest)
            clock.advance(timedelta(microseconds=1))
        wanted = [
            each for pair in zip(made[::2], made[1::2], strict=True)
            for each in sorted(pair, key=lambda manifest: str(manifest.digest))
        ]  # fmt: skip
        with catalog.read() as tx:
            rows = [*tx.referrers.walk(NAME, MISSING, artifact_type=None, after=None, limit=99)]
            assert [row.digest for row in rows] == [manifest.digest for manifest in wanted]
            assert [row.annotations for row in rows] == [manifest.annotations for manifest in wanted]
            assert (rows[0].size, rows[0].media_type) == (len(wanted[0].payload), wanted[0].media_type)
            for position, row in enumerate(rows):
                rest = tx.referrers.walk(
                    NAME, MISSING, artifact_type=None, after=(row.pushed_at, row.digest), limit=99
                )
                assert [*rest] == rows[position + 1 :]
            odd = tx.referrers.walk(NAME, MISSING, artifact_type="x/1", after=None, limit=99)
            assert [row.digest for row in odd] == [manifest.digest for manifest in made[1::2]]
            assert [*tx.referrers.walk(OTHER, MISSING, artifact_type=None, after=None, limit=99)] == []
            assert [*tx.referrers.walk(NAME, UPPER, artifact_type=None, after=None, limit=99)] == []

    # --- uploads

    def _start(self, catalog: Catalog) -> UploadId:
        upload = UploadId.new()
        with catalog.begin() as tx:
            tx.uploads.start(tx.repositories.ensure(NAME).id, upload)
            tx.repositories.ensure(OTHER)
        return upload

    def _lease(
        self, catalog: Catalog, upload: UploadId, lease: str, offset: int | None = None
    ) -> UploadRow | None:
        with catalog.begin() as tx:
            return tx.uploads.lease(NAME, upload, lease, duration=LEASE, offset=offset)

    def test_an_upload_belongs_to_its_repository(self, catalog: Catalog, clock: Clock) -> None:
        """Another repository neither finds nor leases it."""
        upload = self._start(catalog)
        with catalog.begin() as tx:
            row = tx.uploads.find(NAME, upload)
            assert row is not None
            assert (row.id, row.offset, row.digest_so_far, row.touched_at) == (upload, 0, None, clock.instant)
            assert tx.uploads.find(OTHER, upload) is None
            assert tx.uploads.find(NAME, UploadId.new()) is None
            assert tx.uploads.lease(OTHER, upload, "x", duration=LEASE) is None
            assert tx.uploads.lease(NAME, UploadId.new(), "x", duration=LEASE) is None

    def test_one_lease_at_a_time(self, catalog: Catalog) -> None:
        """While one holds the lease another gets none; the holder may renew it; giving it back frees it."""
        upload = self._start(catalog)
        assert self._lease(catalog, upload, "mine") is not None
        assert self._lease(catalog, upload, "other") is None
        assert self._lease(catalog, upload, "mine") is not None
        with catalog.begin() as tx:
            tx.uploads.release(upload, "other")
        assert self._lease(catalog, upload, "other") is None
        with catalog.begin() as tx:
            tx.uploads.release(upload, "mine")
        assert self._lease(catalog, upload, "other") is not None

    def test_a_lease_ends_with_its_time(self, catalog: Catalog, clock: Clock) -> None:
        """A writer that fell silent loses its lease to the next one, and cannot move the offset any more."""
        upload = self._start(catalog)
        assert self._lease(catalog, upload, "mine") is not None
        clock.advance(LEASE)
        assert self._lease(catalog, upload, "other") is None
        clock.advance(timedelta(microseconds=1))
        assert self._lease(catalog, upload, "other") is not None
        assert self._lease(catalog, upload, "mine") is None
        with catalog.begin() as tx:
            assert tx.uploads.advance(upload, "mine", offset=5, digest_so_far=None) is False
            assert tx.uploads.remove(upload, "mine") is False
            tx.uploads.release(upload, "mine")
            assert tx.uploads.advance(upload, "other", offset=7, digest_so_far=None) is True

    def test_renewing_makes_a_lease_last(self, catalog: Catalog, clock: Clock) -> None:
        """A writer that renews in time keeps its lease beyond its first end."""
        upload = self._start(catalog)
        for _ in range(4):
            assert self._lease(catalog, upload, "mine") is not None
            clock.advance(LEASE * 0.9)
            assert self._lease(catalog, upload, "other") is None

    def test_a_lease_can_ask_for_an_offset(self, catalog: Catalog) -> None:
        """The lease is had only by who knows where the upload ends; None asks for no offset."""
        upload = self._start(catalog)
        assert self._lease(catalog, upload, "a", 1) is None
        assert self._lease(catalog, upload, "a", 0) is not None
        with catalog.begin() as tx:
            assert tx.uploads.advance(upload, "a", offset=3_000_000_000, digest_so_far=CONFIG) is True
        assert self._lease(catalog, upload, "b", 0) is None
        row = self._lease(catalog, upload, "b", 3_000_000_000)
        assert row is not None
        assert (row.offset, row.digest_so_far) == (3_000_000_000, CONFIG)

    def test_advancing_gives_the_lease_back(self, catalog: Catalog, clock: Clock) -> None:
        """After its bytes are recorded a writer is done; the upload is dated by that."""
        upload = self._start(catalog)
        self._lease(catalog, upload, "a")
        clock.advance(timedelta(seconds=1))
        with catalog.begin() as tx:
            assert tx.uploads.advance(upload, "a", offset=3, digest_so_far=None) is True
            assert tx.uploads.advance(upload, "a", offset=4, digest_so_far=None) is False
            row = tx.uploads.find(NAME, upload)
            assert row is not None
            assert (row.offset, row.touched_at) == (3, clock.instant)

    def test_only_the_leaseholder_removes_an_upload(self, catalog: Catalog) -> None:
        """An upload goes once, by whom may write it."""
        upload = self._start(catalog)
        with catalog.begin() as tx:
            assert tx.uploads.remove(upload, "a") is False
        self._lease(catalog, upload, "a")
        with catalog.begin() as tx:
            assert tx.uploads.remove(upload, "b") is False
            assert tx.uploads.remove(upload, "a") is True
            assert tx.uploads.remove(upload, "a") is False
            assert _count(tx, Uploads) == 0

    def test_renewing_never_takes_a_lease_back(self, catalog: Catalog, clock: Clock) -> None:
        """A holder keeps its lease even when late, unless somebody else has had it meanwhile."""
        upload = self._start(catalog)
        self._lease(catalog, upload, "mine")
        clock.advance(LEASE * 2)
        with catalog.begin() as tx:
            assert tx.uploads.renew(upload, "mine", duration=LEASE) is True
            assert tx.uploads.renew(upload, "other", duration=LEASE) is False
        assert self._lease(catalog, upload, "other") is None
        clock.advance(LEASE * 2)
        assert self._lease(catalog, upload, "other") is not None
        with catalog.begin() as tx:
            assert tx.uploads.renew(upload, "mine", duration=LEASE) is False
            tx.uploads.release(upload, "other")
            assert tx.uploads.renew(upload, "mine", duration=LEASE) is False

    def test_idle_uploads(self, catalog: Catalog, clock: Clock) -> None:
        """Uploads that nobody touched for long are found, can be hidden, and go unless touched."""
        old = self._start(catalog)
        older = clock.instant
        clock.advance(timedelta(hours=1))
        young = self._start(catalog)
        with catalog.begin() as tx:
            assert tx.uploads.idle(before=older) == ()
            assert tx.uploads.idle(before=clock.instant) == (old,)
            assert tx.uploads.known([old, young, UploadId.new()]) == {old, young}
            assert tx.uploads.known([]) == frozenset()
            assert tx.uploads.find(NAME, old, since=older) is not None
            assert tx.uploads.find(NAME, old, since=clock.instant) is None
            assert tx.uploads.lease(NAME, old, "x", duration=LEASE, since=clock.instant) is None
            assert tx.uploads.lease(NAME, young, "x", duration=LEASE, since=clock.instant) is not None
            assert tx.uploads.remove_idle(young, before=clock.instant) is False
            assert tx.uploads.remove_idle(old, before=clock.instant) is True
            assert tx.uploads.remove_idle(old, before=clock.instant) is False
            assert tx.uploads.idle(before=clock.instant + timedelta(days=1)) == (young,)

    # --- V1 images

    def _chain(self, catalog: Catalog, parents: Sequence[int | None], name: RepositoryName = NAME) -> None:
        """Record images 0, 1, … with *parents*."""
        with catalog.begin() as tx:
            repository_id = _push(tx, name)
            for number, parent in enumerate(parents):
                tx.v1_images.record(_v1_row(repository_id, number, parent))

    def test_ancestry_goes_from_the_image_to_the_base(self, catalog: Catalog) -> None:
        """The image first, the base last, branches and other repositories aside."""
        self._chain(catalog, [None, 0, 1, 1])
        self._chain(catalog, [None, None, 0], OTHER)
        with catalog.read() as tx:
            assert [row.id for row in tx.v1_images.ancestry(NAME, _id(3))] == [_id(3), _id(1), _id(0)]
            assert [row.id for row in tx.v1_images.ancestry(OTHER, _id(2))] == [_id(2), _id(0)]
            assert [row.id for row in tx.v1_images.ancestry(NAME, _id(0))] == [_id(0)]
            assert tx.v1_images.ancestry(NAME, _id(9)) == ()
            assert tx.v1_images.ancestry(OTHER, _id(3)) == ()
            found = tx.v1_images.find(NAME, _id(3))
            assert tx.v1_images.ancestry(NAME, _id(3))[0] == found

    def test_ancestry_of_a_deep_chain(self, catalog: Catalog) -> None:
        """Chains as long as any daemon mounts are followed to their end."""
        self._chain(catalog, [None, *range(400)])
        with catalog.read() as tx:
            rows = tx.v1_images.ancestry(NAME, _id(400))
        assert [row.id for row in rows] == [_id(number) for number in range(400, -1, -1)]

    def test_ancestry_ends_where_a_parent_is_missing_or_repeats(self, catalog: Catalog) -> None:
        """A hole ends the chain; a circle, which only damage could make, does not run for ever."""
        self._chain(catalog, [9, 0])
        self._chain(catalog, [1, 0], OTHER)
        with catalog.read() as tx:
            assert [row.id for row in tx.v1_images.ancestry(NAME, _id(1))] == [_id(1), _id(0)]
            assert {row.id for row in tx.v1_images.ancestry(OTHER, _id(1))} == {_id(0), _id(1)}

    def test_without_a_repository_any_complete_image_is_found(self, catalog: Catalog) -> None:
        """A client without a session reads from the oldest repository within reach that has it whole."""
        with catalog.begin() as tx:
            first, second = _push(tx, NAME), _push(tx, OTHER)
            tx.v1_images.begin(first, V1Image(_id(1), None, b""), CONFIG)
            tx.v1_images.record(_v1_row(second, 0))
            tx.v1_images.record(_v1_row(second, 1, 0))
            assert tx.v1_images.holder(_id(1), EVERYWHERE) == OTHER
            assert tx.v1_images.holder(_id(1), Reach(((NAME,),))) is None
            tx.v1_images.record(_v1_row(first, 1))
            assert tx.v1_images.holder(_id(1), EVERYWHERE) == NAME
            assert tx.v1_images.holder(_id(1), Reach(((OTHER,),))) == OTHER
            assert tx.v1_images.holder(_id(9), EVERYWHERE) is None

    def test_an_image_arrives_in_three_steps(self, catalog: Catalog) -> None:
        """JSON, layer, completion: each is visible, and only complete images are listed."""
        with catalog.begin() as tx:
            repository_id = _push(tx)
            tx.v1_images.begin(repository_id, V1Image(_id(1), _id(0), b""), CONFIG)
            begun = tx.v1_images.find(NAME, _id(1))
            assert begun == V1ImageRow(
                repository_id, _id(1), _id(0), CONFIG, None, None, None, None, complete=False
            )
            assert tx.v1_images.attach(begun, LOWER, MISSING, UPPER) is True
            assert tx.v1_images.list(NAME) == ()
            attached = tx.v1_images.find(NAME, _id(1))
            size = len(IMAGE.layers[0])
            assert attached == V1ImageRow(
                repository_id, _id(1), _id(0), CONFIG, LOWER, size, MISSING, UPPER, complete=False
            )
            assert tx.v1_images.complete(attached) is True
            assert tx.v1_images.list(NAME) == (_id(1),)
            assert tx.v1_images.find(OTHER, _id(1)) is None

    def test_an_image_that_changed_meanwhile_is_left_alone(self, catalog: Catalog) -> None:
        """Neither layer nor completion reaches an image that another client began anew or completed."""
        with catalog.begin() as tx:
            repository_id = _push(tx)
            tx.v1_images.begin(repository_id, V1Image(_id(1), None, b""), CONFIG)
            read = tx.v1_images.find(NAME, _id(1))
            assert read is not None
            tx.v1_images.begin(repository_id, V1Image(_id(1), None, b""), UPPER)
            assert tx.v1_images.attach(read, LOWER, MISSING, UPPER) is False
            anew = tx.v1_images.find(NAME, _id(1))
            assert anew is not None
            assert tx.v1_images.attach(anew, LOWER, MISSING, UPPER) is True
            with_layer = tx.v1_images.find(NAME, _id(1))
            assert with_layer is not None
            assert tx.v1_images.attach(anew, UPPER, MISSING, UPPER) is True
            assert tx.v1_images.complete(with_layer) is False
            last = tx.v1_images.find(NAME, _id(1))
            assert last is not None
            assert tx.v1_images.complete(last) is True
            assert tx.v1_images.attach(last, LOWER, MISSING, UPPER) is False

    def test_beginning_again_starts_over(self, catalog: Catalog) -> None:
        """A new JSON forgets the layer that came with the old one, but never a complete image."""
        with catalog.begin() as tx:
            repository_id = _push(tx)
            complete = _v1_row(repository_id, 2)
            tx.v1_images.record(complete)
            assert not tx.v1_images.begin(repository_id, V1Image(_id(2), None, b""), UPPER)
            assert tx.v1_images.find(NAME, _id(2)) == complete
            tx.v1_images.record(replace(_v1_row(repository_id, 1), complete=False))
            assert tx.v1_images.begin(repository_id, V1Image(_id(1), None, b""), UPPER)
            assert tx.v1_images.find(NAME, _id(1)) == V1ImageRow(
                repository_id, _id(1), None, UPPER, None, None, None, None, complete=False
            )

    # --- views

    def test_views_of_tags(self, catalog: Catalog) -> None:
        """Tags are seen as images; those that V1 clients cannot use, or nobody worked out, are left out."""
        unusable, unknown = _artifact(1), _artifact(2)
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a", "B")
            for manifest, tag in ((unusable, "c"), (unknown, "d")):
                _record(tx, repository_id, manifest)
                tx.tags.point(repository_id, [Tag(tag)], manifest.digest)
            assert tx.views.tags(NAME).images == {}
            tx.views.record(repository_id, MANIFEST.digest, _id(1))
            tx.views.record(repository_id, unusable.digest, None)
            assert [*tx.views.tags(NAME).images.items()] == [(Tag("B"), _id(1)), (Tag("a"), _id(1))]
            assert tx.views.tags(NAME, Tag("a")).images == {Tag("a"): _id(1)}
            assert tx.views.tags(NAME, Tag("c")).images == {}
            assert tx.views.tags(OTHER).images == {}

    def test_views_that_are_missing(self, catalog: Catalog) -> None:
        """Tagged manifests without a view, each once; untagged and worked-out ones are not among them."""
        untagged, unusable = _artifact(1), _artifact(2)
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a", "b")
            _push(tx, OTHER, "a")
            for manifest in (untagged, unusable):
                _record(tx, repository_id, manifest)
            tx.tags.point(repository_id, [Tag("c")], unusable.digest)
            row = ManifestRow(repository_id, MANIFEST.digest, IMAGE.media_type, len(IMAGE.manifest))
            assert {each.digest for each in tx.views.missing(NAME)} == {MANIFEST.digest, unusable.digest}
            tx.views.record(repository_id, unusable.digest, None)
            assert tx.views.missing(NAME) == (row,)
            tx.views.record(repository_id, MANIFEST.digest, _id(1))
            assert tx.views.missing(NAME) == ()

    def test_the_newest_manifest_of_an_image(self, catalog: Catalog, clock: Clock) -> None:
        """Of several manifests seen as one image, the last pushed counts, in its repository."""
        older, newer = _artifact(1), _artifact(2)
        ids = {}
        for manifest in (older, newer):
            with catalog.begin() as tx:
                ids[manifest.digest] = repository_id = tx.repositories.ensure(NAME).id
                _record(tx, repository_id, manifest)
                tx.views.record(repository_id, manifest.digest, _id(2))
                tx.views.record(repository_id, manifest.digest, _id(1))
            clock.advance(timedelta(seconds=1))
        with catalog.read() as tx:
            assert tx.views.manifest_of(repository_id, _id(1)) == newer.digest
            assert tx.views.manifest_of(repository_id, _id(2)) is None
            assert tx.views.manifest_of(repository_id + 1, _id(1)) is None

    def test_a_purpose_has_one_key(self, catalog: Catalog) -> None:
        """Whoever adds another key, or the same one again, still gets the first; purposes are apart."""
        with catalog.begin() as tx:
            assert tx.keys.find("a") is None
            tx.keys.add("1", "a", "first")
            tx.keys.add("1", "a", "again")
            assert tx.keys.find("a") == "first"
            assert tx.keys.find("b") is None
        with catalog.begin() as tx:
            tx.keys.add("2", "a", "second")
            tx.keys.add("3", "b", "other")
            assert [tx.keys.find(purpose) for purpose in "ab"] == ["first", "other"]

    def test_processes_that_need_a_key_at_once_agree(self, catalog: Catalog) -> None:
        """Each asks with connections of its own; all sign with one key, at once and ever after."""
        gate = threading.Barrier(4)

        def ask(_: int) -> str:
            gate.wait()
            return Keys(catalog).schema1.id

        with ThreadPoolExecutor(4) as pool:
            used = {*pool.map(ask, range(4))}
        assert used == {Keys(catalog).schema1.id}

    def test_the_signed_form_of_a_manifest(self, catalog: Catalog) -> None:
        """The latest recorded; it is a blob in use, until the manifest is gone."""
        signed = [Digest.of(text) for text in (b"one", b"two")]
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a")
            assert tx.manifests.signed(repository_id, MANIFEST.digest) is None
            for digest in signed:
                tx.blobs.claim(digest, 3)
                tx.blobs.link(repository_id, digest)
                tx.manifests.record_signed(repository_id, MANIFEST.digest, digest)
            assert tx.manifests.signed(repository_id, MANIFEST.digest) == BlobRow(signed[1], 3)
            assert tx.blobs.unlink(repository_id, *signed) == (signed[0],)
            tx.manifests.remove(repository_id, MANIFEST.digest)
            assert tx.blobs.unlink(repository_id, signed[1])

    def test_v1_clients_add_up(self, catalog: Catalog) -> None:
        """Visits of one client are one row: the first and last time, how often; the latest comes first."""
        day = timedelta(days=1)
        now = catalog.now()
        visits = [
            ClientRow("1.2.3.4", "docker/1.5.0", "a/b", now - 2 * day, now - 2 * day, 1, 0),
            ClientRow("1.2.3.4", "docker/1.5.0", "a/b", now - day, now - day, 3, 2),
            ClientRow("1.2.3.4", "docker/1.5.0", "", now - 3 * day, now - 3 * day, 1, 1),
        ]
        for visit in visits:
            with catalog.begin() as tx:
                tx.clients.record([visit])
        together = ClientRow("1.2.3.4", "docker/1.5.0", "a/b", now - 2 * day, now - day, 4, 2)
        with catalog.read() as tx:
            assert tx.clients.list(now - 4 * day) == (together, visits[2])
            assert tx.clients.list(now - 2 * day) == (together,)
            assert tx.clients.list(now) == ()

    def test_tags_have_an_origin(self, catalog: Catalog) -> None:
        """Whoever pointed a tag last; lists and views can be narrowed to it."""
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a", "b")
            tx.views.record(repository_id, MANIFEST.digest, _id(1))
            tx.tags.point(repository_id, [Tag("a")], MANIFEST.digest, Origin.V1)
            for origin, tag in ((Origin.V1, "a"), (Origin.V2, "b")):
                assert tx.tags.list(NAME, last="", limit=None, origins={origin}) == (tag,)
                assert tx.views.tags(NAME, origins={origin}).images == {tag: _id(1)}
                found = tx.manifests.find(NAME, Tag(tag))
                assert (found and found.origin) == origin
                (row,) = tx.tags.describe(
                    NAME, prefix="", newest_first=False, after=None, limit=9, origins={origin}
                )
                assert (row.name, row.origin) == (tag, origin)

    def test_a_tag_knows_who_pushed_it_last(self, catalog: Catalog, clock: Clock) -> None:
        """Until it is pointed anew; a tag that is not there has no pusher."""
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a", "b")
            assert tx.tags.pusher(NAME, Tag("a")) == (None, clock())
            tx.tags.pushed_by(NAME, Tag("a"), "docker/1.5.0 é")
            assert tx.tags.pusher(NAME, Tag("a")) == ("docker/1.5.0 é", clock())
            assert tx.tags.pusher(NAME, Tag("b")) == (None, clock())
            assert tx.tags.pusher(NAME, Tag("c")) is None
            assert tx.tags.pusher(OTHER, Tag("a")) is None
            tx.tags.point(repository_id, [Tag("a")], MANIFEST.digest)
            assert tx.tags.pusher(NAME, Tag("a")) == (None, clock())

    def test_what_is_stated_of_an_image_is_kept(self, catalog: Catalog) -> None:
        """With its completion: the TarSum, and whether it agreed."""
        with catalog.begin() as tx:
            repository_id = _push(tx)
            tx.v1_images.begin(repository_id, V1Image(_id(1), None, b""), CONFIG)
            tx.v1_images.attach(_found(tx, 1), LOWER, MISSING, UPPER)
            stated = replace(_found(tx, 1), tarsum="tarsum+sha256:0", tarsum_verified=False)
            assert tx.v1_images.complete(stated) is True
            assert _found(tx, 1) == replace(stated, complete=True)

    def test_images_of_one_id_are_told_apart(self, catalog: Catalog) -> None:
        """By JSON, parent and files; what is incomplete, unknown or elsewhere contradicts nothing."""
        with catalog.begin() as tx:
            repository_id, other = _push(tx), _push(tx, OTHER)
            for row in (_v1_row(repository_id, 1), _v1_row(repository_id, 2, 1)):
                tx.v1_images.record(row)
            tx.v1_images.begin(repository_id, V1Image(_id(3), None, b""), CONFIG)
            row = _v1_row(repository_id, 2, 1)
            for same in ([], [row], [_v1_row(repository_id, 3)], [_v1_row(repository_id, 4), row]):
                assert tx.v1_images.contradicts(repository_id, same) is False
            for change in ({"json": UPPER}, {"parent": None}, {"diff_id": UPPER}):
                changed = replace(row, **change)  # type: ignore[arg-type]  # one of its fields
                assert tx.v1_images.contradicts(repository_id, [_v1_row(repository_id, 1), changed]) is True
                assert tx.v1_images.contradicts(other, [changed]) is False

    def test_manifests_are_no_longer_seen_as_what_is_another(self, catalog: Catalog) -> None:
        """Those that were seen as one of the images; not those of other images or repositories."""
        with catalog.begin() as tx:
            repository_id, other = _push(tx, NAME, "a"), _push(tx, OTHER, "a")
            _record(tx, repository_id, _artifact(1))
            tx.tags.point(repository_id, [Tag("b")], _artifact(1).digest)
            tx.views.record(repository_id, MANIFEST.digest, _id(1))
            tx.views.record(repository_id, _artifact(1).digest, _id(2))
            tx.views.record(other, MANIFEST.digest, _id(1))
            tx.views.blind(repository_id, [_id(1), _id(3)])
            assert tx.views.tags(NAME).images == {Tag("b"): _id(2)}
            assert tx.views.missing(NAME) == ()
            assert tx.views.tags(OTHER).images == {Tag("a"): _id(1)}

    # --- who may

    def test_keys_are_accepted_until_their_grace_ends(self, catalog: Catalog, clock: Clock) -> None:
        """The one that signs always, replaced ones for a while, and those of another purpose never."""
        with catalog.begin() as tx:
            tx.keys.add("1", "a", "first")
            tx.keys.retire("a", timedelta(hours=2))
            tx.keys.add("2", "a", "second")
            assert tx.keys.find("a") == "second"
            assert [tx.keys.accepted(kid, "a") for kid in ("1", "2", "3")] == ["first", "second", None]
            assert tx.keys.accepted("1", "b") is None
            tx.keys.retire("a", timedelta(hours=1))
            tx.keys.add("3", "a", "third")
            assert tx.keys.count_accepted("a") == 3
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            assert [tx.keys.accepted(kid, "a") for kid in ("1", "2", "3")] == [None, None, "third"]
            assert tx.keys.count_accepted("a") == 1
            tx.keys.retire("a", timedelta(0))
            assert tx.keys.find("a") is None

    def test_accounts_and_their_groups(self, catalog: Catalog, clock: Clock) -> None:
        """A name is taken once; what goes with it goes; a name with a NUL is nobody's."""
        with catalog.begin() as tx:
            assert tx.accounts.add("alice", "hash") is True
            assert tx.accounts.add("alice", "other") is False
            assert tx.accounts.add("ci", None) is True
            for group in ("dev", "ops", "dev"):
                tx.accounts.join(group, "alice")
            alice = AccountRow("alice", "hash", robot=False, created_at=clock())
            assert tx.accounts.list() == [alice, AccountRow("ci", None, robot=True, created_at=clock())]
            assert tx.accounts.find("alice") == alice
            assert tx.accounts.find("alice\0x") is None
            assert tx.accounts.groups("alice") == {"dev", "ops"}
            assert tx.accounts.groups("ci") == frozenset()
            assert tx.accounts.memberships() == [("dev", "alice"), ("ops", "alice")]
            assert [tx.accounts.leave("ops", "alice") for _ in range(2)] == [True, False]
            tx.accounts.set_password("alice", "new")
            assert tx.accounts.find("alice") == replace(alice, password_hash="new")
            assert [tx.accounts.remove("alice") for _ in range(2)] == [True, False]
            assert tx.accounts.memberships() == []
            assert "hash" not in repr(alice)

    def test_permission_lines(self, catalog: Catalog) -> None:
        """One for each who and pattern, to which actions are added; found by any name of somebody."""
        with catalog.begin() as tx:
            for who, pattern, action in (("b", "x", "pull"), ("a", "y", "pull"), ("a", "x", "pull")):
                tx.permissions.put(PermissionRow(who, pattern, frozenset({action})))
            both = PermissionRow("a", "x", frozenset({"pull", "push"}))
            assert tx.permissions.put(replace(both, actions=frozenset({"push"}))) == both
            y = PermissionRow("a", "y", frozenset({"pull"}))
            assert tx.permissions.of(["a", "nobody"]) == [both, y]
            assert tx.permissions.of([]) == []
            assert [(line.who, line.pattern) for line in tx.permissions.list()] == [
                ("a", "x"),
                ("a", "y"),
                ("b", "x"),
            ]
            pulled = replace(both, actions=frozenset({"pull"}))
            assert tx.permissions.take("a", "nowhere", None) is None
            assert tx.permissions.take("a", "x", {"push", "delete"}) == pulled
            assert tx.permissions.take("a", "y", None) == replace(y, actions=frozenset())
            assert tx.permissions.take("a", "y", {"pull"}) is None
            assert tx.permissions.list()[0] == pulled
            assert tx.permissions.remove_all("a") == 1
            assert [line.who for line in tx.permissions.list()] == ["b"]

    def test_no_change_of_a_line_is_lost(self, catalog: Catalog) -> None:
        """Four at once add an action each to a line that is new; then two add to it, and two take from it."""
        gate = threading.Barrier(4)

        def put(action: str, pattern: str) -> None:
            gate.wait()
            with catalog.begin() as tx:
                tx.permissions.put(PermissionRow("a", pattern, frozenset({action})))

        def take(action: str, pattern: str) -> None:
            gate.wait()
            with catalog.begin() as tx:
                assert tx.permissions.take("a", pattern, {action}) is not None

        for pattern in map(str, range(10)):
            for changes, left in (((put, put, put, put), "1234"), ((take, take, put, put), "34")):
                with ThreadPoolExecutor(4) as pool:
                    [*pool.map(lambda change, *given: change(*given), changes, "1234", [pattern] * 4)]
                with catalog.begin() as tx:
                    assert tx.permissions.list() == [PermissionRow("a", pattern, frozenset(left))]
                    tx.permissions.take("a", pattern, {"3", "4"})

    def test_secrets(self, catalog: Catalog, clock: Clock) -> None:
        """Found by their names, listed by their sorts, gone one by one or with their account."""
        rows = [
            SecretRow(f"{number}", kind, "alice", "h", "", "note", "", "", clock(), expires)
            for number, kind, expires in ((1, "key", None), (2, "refresh", None), (3, "key", clock()))
        ]
        with catalog.begin() as tx:
            for row in reversed(rows):
                tx.secrets.add(row)
            assert tx.secrets.list("key") == [rows[0], rows[2]]
            assert [tx.secrets.find(str(number)) for number in (1, 2, 3, 4)] == [*rows, None]
            tx.secrets.remove("1")
            assert tx.secrets.list("key") == [rows[2]]
            tx.secrets.remove_all("bob")
            tx.secrets.remove_all("alice")
            assert tx.secrets.list("key") + tx.secrets.list("refresh") == []

    def test_failed_logins(self, catalog: Catalog, clock: Clock) -> None:
        """Counted since the first, for each subject; old counts are gone, and start anew."""
        window, began = timedelta(minutes=15), clock()
        for subjects in (["a", "b"], ["b"]):
            with catalog.begin() as tx:
                tx.attempts.count(subjects, clock() - window)
        with catalog.begin() as tx:
            counted = tx.attempts.counted(["a", "b", "c"], clock() - window)
            assert counted == {"a": (1, began), "b": (2, began)}
            tx.attempts.forget("a")
        clock.advance(window)
        with catalog.begin() as tx:
            assert tx.attempts.counted(["a", "b"], clock() - window) == {}
            tx.attempts.count(["b"], clock() - window)
            assert tx.attempts.counted(["b"], clock() - window) == {"b": (1, clock())}

    def test_failures_at_once_are_all_counted(self, catalog: Catalog) -> None:
        """Eight threads, two subjects each, in either order."""

        def fail(number: int) -> None:
            with catalog.begin() as tx:
                tx.attempts.count(["x", "y"][:: 1 if number % 2 else -1], catalog.now() - timedelta(hours=1))

        with ThreadPoolExecutor(8) as pool:
            [*pool.map(fail, range(40))]
        with catalog.read() as tx:
            counted = tx.attempts.counted(["x", "y"], catalog.now() - timedelta(hours=1))
        assert {count for count, _ in counted.values()} == {40}

    # --- taking out what was taken in

    def test_blobs_are_released_when_nobody_has_them(self, catalog: Catalog) -> None:
        """Never while a repository may read them."""
        with catalog.begin() as tx:
            tx.blobs.claim(LOWER, 3)
            row = tx.repositories.ensure(NAME)
            tx.blobs.link(row.id, LOWER)
            assert tx.repositories.is_empty(row.id) is False
            assert tx.blobs.release(LOWER) is False
            tx.blobs.unlink(row.id, LOWER)
            assert tx.repositories.is_empty(row.id) is True
            assert [tx.blobs.release(LOWER) for _ in range(2)] == [True, False]

    def test_images_are_forgotten_from_the_top(self, catalog: Catalog) -> None:
        """One that something stands on, or a manifest is seen as, stays."""
        with catalog.begin() as tx:
            repository_id = _push(tx, NAME, "a")
            other = _push(tx, OTHER, "a")
            for owner in (repository_id, other):
                for row in (_v1_row(owner, 0), _v1_row(owner, 1, 0), _v1_row(owner, 2)):
                    tx.v1_images.record(row)
            tx.views.record(repository_id, MANIFEST.digest, _id(2))
            assert [tx.v1_images.forget(repository_id, _id(number)) for number in (0, 2, 9)] == [False] * 3
            assert [tx.v1_images.forget(repository_id, _id(number)) for number in (1, 0)] == [True] * 2
            assert {*tx.v1_images.list(NAME)} == {_id(2)}
            assert {*tx.v1_images.list(OTHER)} == {_id(0), _id(1), _id(2)}

    def test_what_was_forgotten(self, catalog: Catalog, clock: Clock) -> None:
        """Each with the time of its last deletion, whether the repository is there or not."""
        digest = MANIFEST.digest
        with catalog.begin() as tx:
            tx.forgotten.mark(NAME, [Tag("1"), Tag("2"), Tag("1"), digest])
            tx.forgotten.mark(OTHER, [])
        first = clock()
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.forgotten.mark(NAME, [Tag("2")])
        with catalog.read() as tx:
            assert tx.forgotten.of(NAME).times == {"1": first, "2": clock(), str(digest): first}
            assert tx.forgotten.of(OTHER).times == {}
            for wanted, at in (("1", first), ("2", clock()), ("3", None), (str(digest), first)):
                assert tx.forgotten.at(NAME, wanted) == tx.forgotten.of(NAME).at(wanted) == at
            assert tx.forgotten.at(NAME, "1", digest, "2") == tx.forgotten.of(NAME).at("1", "2") == clock()

    def test_whole_repositories_are_forgotten(self, catalog: Catalog, clock: Clock) -> None:
        """With everything that is in them, and nothing that is deleted later."""
        with catalog.begin() as tx:
            tx.forgotten.mark(NAME, [Tag("1")])
            tx.forgotten.mark(OTHER, [Tag("1")])
        before = clock()
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.forgotten.mark_all(NAME)
        whole = clock()
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.forgotten.mark(NAME, [Tag("2")])
        with catalog.read() as tx:
            for wanted, at in (("1", whole), ("2", clock()), ("3", whole)):
                assert tx.forgotten.at(NAME, wanted) == tx.forgotten.of(NAME).at(wanted) == at
            assert [tx.forgotten.at(OTHER, tag) for tag in ("1", "2")] == [before, None]

    def test_every_table_is_in_use(self, catalog: Catalog) -> None:
        """A guard: the contract knows all tables there are."""
        known = {
            Accounts, Blobs, Forgotten, GroupMembers, LoginFailures, ManifestChildren, Manifests,
            ManifestViews, MissingChildren, Permissions, Repositories, RepositoryBlobs, Secrets, SigningKeys,
            Tags, Uploads, V1Clients, V1Images,
        }  # fmt: skip
        assert {table.__tablename__ for table in known} == set(Table.metadata.tables)
        with catalog.read() as tx:
            assert {_count(tx, table) for table in known} == {0}
