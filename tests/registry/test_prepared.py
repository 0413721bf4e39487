"""Statements that are compiled once do what SQLAlchemy does with them, listened to or not."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import IntegrityError

from dualreg.catalog import uploads
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import Uploads
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId

NAME = RepositoryName("team/app")
DIGEST = Digest.of(b"some bytes")


@pytest.fixture(params=["listened to", "not listened to"])
def heard(request: pytest.FixtureRequest, catalog: Catalog) -> Iterator[list[str] | None]:
    """The statements that SQLAlchemy says it executes; None: nothing listens."""
    heard: list[str] = []

    def note(*given: object) -> None:
        heard.append(str(given[2]))

    if request.param == "not listened to":
        yield None
        return
    event.listen(catalog.engine, "before_cursor_execute", note)
    yield heard
    event.remove(catalog.engine, "before_cursor_execute", note)


def test_rows_have_the_types_of_their_columns(catalog: Catalog, heard: list[str] | None) -> None:
    """Times are aware, digests are digests, and constants of a statement count."""
    with catalog.begin() as tx:
        repository, now = tx.repositories.ensure(NAME), tx.now
        tx.blobs.admit(DIGEST, 10)
        tx.blobs.link(repository.id, DIGEST)
    upload, staged = UploadId.new(), UploadId.new()
    with catalog.begin() as tx:
        assert tx.repositories.ensure(NAME) == repository
        assert tx.uploads.start(repository.id, upload)
        assert tx.at_once.fill(NAME, upload, staged, offset=3, layout="", digest_so_far=DIGEST)
        assert not tx.at_once.fill(NAME, upload, staged, offset=3, layout="", digest_so_far=DIGEST)
        assert not tx.uploads.remove(upload, "another lease")
    with catalog.read() as tx:
        assert tx.blobs.find_noted(NAME, DIGEST, since=now) == BlobRow(DIGEST, 10, now)
        assert tx.blobs.find_noted(RepositoryName("other"), DIGEST, since=now) is None
        row = tx.uploads.find(NAME, upload)
        assert tx.at_once.find(NAME, upload, DIGEST, since=now) == (staged, "", 3)
        assert tx.at_once.find(RepositoryName("other"), upload, DIGEST, since=now) is None
    assert row
    assert (row.offset, row.digest_so_far, row.staged) == (3, DIGEST, staged)
    assert heard is None or any(text.startswith("INSERT INTO blobs") for text in heard)


def test_errors_are_those_of_sqlalchemy(catalog: Catalog, heard: list[str] | None) -> None:
    """They add no values to what the database says; what has failed is rolled back."""
    with pytest.raises(IntegrityError) as caught:
        _link_nothing(catalog)
    says = str(caught.value.orig)  # PostgreSQL names the key
    assert DIGEST.hex not in str(caught.value).replace(says, "")
    assert catalog.engine.dialect.name == "postgresql" or DIGEST.hex not in says
    with catalog.read() as tx:
        assert tx.repositories.find(NAME) is None
    assert heard is None or any(text.startswith("INSERT INTO repository_blobs") for text in heard)


def _link_nothing(catalog: Catalog) -> None:
    """Link a blob that there is not to a repository that there is not."""
    with catalog.begin() as tx:
        tx.repositories.ensure(NAME)
        tx.blobs.link(1 << 40, DIGEST)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_lists_of_any_length(catalog: Catalog, heard: list[str] | None, count: int) -> None:
    """Their number is padded; nothing that is not named is found or changed."""
    del heard
    digests = [Digest.of(bytes([number])) for number in range(6)]
    with catalog.begin() as tx:
        repository = tx.repositories.ensure(NAME)
        tx.blobs.record_all(dict.fromkeys(digests, 1))
        tx.blobs.link_all([(repository.id, digest) for digest in digests], tx.now)
    with catalog.begin() as tx:
        assert tx.blobs.linked(repository.id, digests[:count]) == dict.fromkeys(digests[:count], 1)
        assert tx.blobs.linked(repository.id, [*digests[:count], DIGEST]).keys() == {*digests[:count]}
        assert tx.blobs.linked(repository.id, []) == {}


def test_statements_that_are_made_of_others(catalog: Catalog) -> None:
    """In a process that first cancels an upload, others end: what deletes an upload is made of the same."""
    for each in (uploads._remove, uploads._finish):
        each.cache_clear()
    cancelled, finished = UploadId.new(), UploadId.new()
    with catalog.begin() as tx:
        repository = tx.repositories.ensure(NAME)
        assert tx.uploads.start(repository.id, cancelled)
        assert tx.uploads.start(repository.id, finished)
    with catalog.begin() as tx:
        assert not tx.uploads.remove(cancelled, "a lease")
        for upload in (cancelled, finished):
            held = update(Uploads).where(Uploads.id == upload)
            tx.connection.execute(held.values(lease="a lease"))
        assert tx.uploads.remove(cancelled, "a lease")
        assert tx.uploads.finish(finished, "a lease", NAME) == repository
