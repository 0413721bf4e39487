"""Blobs: claimed, linked, released."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.catalog.tables import Blobs, Repositories, RepositoryBlobs, Table
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, UploadId
from dualreg.image.v1_image import V1Image
from dualreg.patterns import EVERYWHERE, Reach
from tests.conftest import Clock
from tests.contracts.catalog.rows import (
    CONFIG,
    IMAGE,
    LOWER,
    MANIFEST,
    MISSING,
    NAME,
    OTHER,
    UPPER,
    artifact,
    count,
    image_id,
    link,
    push,
)


class BlobsContract:
    """Blobs: claimed, linked, released."""

    def test_many_at_once(self, catalog: Catalog) -> None:
        """As one by one: known sizes stay, condemned blobs are revived, and links get their times."""
        sizes = {digest: size for size, digest in enumerate((CONFIG, LOWER, UPPER), 1)}
        with catalog.begin() as tx:
            repository = tx.repositories.ensure(NAME)
            tx.blobs.record(CONFIG, 9)
            for digest in (LOWER, UPPER):
                tx.blobs.record(digest, 9)
                tx.blobs.link(repository.id, digest)
            tx.blobs.unlink(repository.id, LOWER, UPPER)
        at = catalog.now() - timedelta(days=1)
        with catalog.begin() as tx:
            tx.blobs.record_all(sizes)
            tx.blobs.record_all({})
            assert tx.blobs.sizes(sizes) == {**sizes, CONFIG: 9}
            tx.blobs.link_all(((repository.id, digest) for digest in sizes), at)
            tx.blobs.link_all([], at)
            tx.blobs.mark_damaged(CONFIG)
            tx.blobs.mend([LOWER])
            assert tx.blobs.count_damaged() == 1
            tx.blobs.mend(sizes)
            assert tx.blobs.count_damaged() == 0
            assert dict(tx.linking.blobs(repository.id, None)) == dict.fromkeys(sizes, at)
            assert tx.blobs.release(*sizes) == frozenset()

    def test_a_blob_is_found_wherever_it_is_linked(self, catalog: Catalog) -> None:
        """A blob that nobody may read is not found anywhere."""
        with catalog.begin() as tx:
            tx.blobs.record(LOWER, 3)
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
            assert tx.blobs.record(CONFIG, 5) == 5
            assert tx.blobs.record(CONFIG, 7) == 5
            assert tx.blobs.record(LOWER, 2**40) == 2**40
            assert count(tx, Blobs) == 2

    def test_claim_revives_a_condemned_blob(self, catalog: Catalog, clock: Clock) -> None:
        """A blob on its way out is kept when somebody pushes it again."""
        with catalog.begin() as tx:
            tx.blobs.record(CONFIG, 5)
            connection = tx.blobs.connection
            connection.execute(Blobs.__table__.update().values(condemned_at=clock.instant))  # type: ignore[attr-defined]
            tx.blobs.record(CONFIG, 5)
            assert connection.scalars(select(Blobs.condemned_at)).all() == [None]

    def test_a_blob_is_read_through_its_link(self, catalog: Catalog) -> None:
        """Only the repository that was given a blob finds it."""
        with catalog.begin() as tx:
            mine, other = (tx.repositories.ensure(name).id for name in (NAME, OTHER))
            link(tx, mine, IMAGE.config)
            tx.blobs.record(LOWER, 3)
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
            link(tx, tx.repositories.ensure(NAME).id, IMAGE.config)
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            link(tx, tx.repositories.ensure(NAME).id, IMAGE.config)
            assert tx.blobs.connection.scalars(select(RepositoryBlobs.linked_at)).all() == [clock.instant]

    def test_unlink_takes_what_nothing_names(self, catalog: Catalog) -> None:
        """An unused link goes, once; those of other repositories stay."""
        with catalog.begin() as tx:
            mine, other = (tx.repositories.ensure(name).id for name in (NAME, OTHER))
            for repository_id in (mine, other):
                link(tx, repository_id, IMAGE.config)
            assert tx.blobs.unlink(mine, CONFIG, MISSING) == (CONFIG,)
            assert tx.blobs.unlink(mine, CONFIG) == ()
            assert tx.blobs.find(OTHER, CONFIG) is not None

    def test_unlink_leaves_what_is_named(self, catalog: Catalog) -> None:
        """Manifests, their children, and V1 images keep their blobs, and can be asked for by them."""
        with catalog.begin() as tx:
            repository_id = push(tx)
            blobs = (b"json", b"v1 layer")
            link(tx, repository_id, *blobs)
            json, v1_layer = map(Digest.of, blobs)
            row = V1ImageRow(
                repository_id, image_id(1), None, json, v1_layer, 8, MISSING, None, complete=True
            )
            tx.v1_images.record(row)
            for digest in (MANIFEST.digest, CONFIG, LOWER, UPPER, json, v1_layer):
                assert tx.blobs.unlink(repository_id, digest) == ()
            named = {digest: tx.blobs.referrers(repository_id, digest) for digest in (CONFIG, json, v1_layer)}
            assert named == {CONFIG: (str(MANIFEST.digest),), json: (image_id(1),), v1_layer: (image_id(1),)}

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
            repository_id = push(tx)
            link(tx, repository_id, b"json", b"v1 layer")
            json, v1_layer = Digest.of(b"json"), Digest.of(b"v1 layer")
            row = V1ImageRow(
                repository_id, image_id(1), None, json, v1_layer, 8, MISSING, None, complete=True
            )
            tx.v1_images.record(row)
        with pytest.raises(IntegrityError), catalog.begin() as tx:
            tx.blobs.connection.execute(delete(table).where(column == value))  # type: ignore[arg-type]

    def test_the_database_refuses_to_name_what_is_not_there(self, catalog: Catalog) -> None:
        """Links, manifests, children, tags, views and V1 images need what they point at."""
        stranger = artifact(1)
        parent = replace(stranger, contents=MANIFEST.contents)
        with catalog.begin() as tx:
            repository_id = push(tx)

        for name in (
            lambda tx: tx.blobs.link(repository_id, MISSING),
            lambda tx: tx.blobs.link(repository_id + 1, CONFIG),
            lambda tx: tx.manifests.record(repository_id, stranger),
            lambda tx: tx.manifests.record_children(repository_id, parent, MANIFEST.children),
            lambda tx: tx.tags.point(repository_id, [Tag("v1")], stranger.digest),
            lambda tx: tx.uploads.start(repository_id + 1, UploadId.new()),
            lambda tx: tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), MISSING),
            lambda tx: tx.views.record(repository_id, stranger.digest, None),
        ):
            with pytest.raises(IntegrityError), catalog.begin() as tx:
                name(tx)

    def test_blobs_are_released_when_nobody_has_them(self, catalog: Catalog) -> None:
        """Never while a repository may read them."""
        with catalog.begin() as tx:
            tx.blobs.record(LOWER, 3)
            row = tx.repositories.ensure(NAME)
            tx.blobs.link(row.id, LOWER)
            assert tx.repositories.is_empty(row.id) is False
            assert tx.blobs.release(LOWER) == frozenset()
            tx.blobs.unlink(row.id, LOWER)
            assert tx.repositories.is_empty(row.id) is True
            assert [tx.blobs.release(LOWER) for _ in range(2)] == [{LOWER}, frozenset()]
