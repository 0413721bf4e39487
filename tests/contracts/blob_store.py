"""What every driver of the store must do; each driver's test file inherits it and says how to open one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId
from dualreg.storage import Store
from dualreg.storage.base import CHUNK_SIZE, StoredBlob, read_chunks, rehash, tee
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink
from dualreg.storage.links import Links

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


class _Broken(Exception):
    """What chunks raise when a client goes away."""


def _publish(store: Store, data: bytes) -> Digest:
    upload = UploadId.new()
    digest = Digest.of(data)
    store.append(upload, (data,), offset=0)
    store.publish(upload, digest)
    return digest


def _staged(store: Store, upload: UploadId) -> bytes:
    with store.reopen(upload) as reader:
        return reader.read()


def _read(store: Store, digest: Digest, start: int = 0) -> bytes:
    with store.open(digest, start=start) as reader:
        return reader.read()


class BlobStoreContract:
    """The promises of BlobStore and LinkTree; a driver's test class provides the ``store`` fixture.

    Attributes:
        is_local: Whether the driver asks no other machine.
    """

    is_local: ClassVar[bool] = True

    def test_append_continues_where_it_ended(self, store: Store) -> None:
        """Appends return the new length, and the bytes follow each other."""
        upload = UploadId.new()
        assert store.append(upload, [b"one", b"", b"two"], offset=0) == 6
        assert store.append(upload, [], offset=6) == 6
        assert store.append(upload, iter([b"three"]), offset=6) == 11
        assert _staged(store, upload) == b"onetwothree"

    def test_what_is_read_at_once_is_what_there_is(self, store: Store) -> None:
        """Nothing of a blob that is not there or has another size, and nothing past its end."""
        size = len(DATA)
        assert store.read_at_once(DIGEST, size, start=0, length=size) is None
        _publish(store, DATA)
        for start, length in [(0, size), (3, 2), (size - 1, 1)]:
            found = store.read_at_once(DIGEST, size, start=start, length=length)
            assert found in (None, DATA[start : start + length])
        assert store.read_at_once(DIGEST, size + 1, start=0, length=1) is None
        assert store.read_at_once(DIGEST, size, start=1, length=size) is None
        assert store.is_local() == self.is_local

    @pytest.mark.parametrize(
        ("offset", "expected"), [(0, b"new"), (1, b"onew"), (6, b"onetwonew")], ids=["all", "most", "none"]
    )
    def test_append_cuts_to_its_offset(self, store: Store, offset: int, expected: bytes) -> None:
        """Bytes behind the offset are those of an append that nobody recorded: they go."""
        upload = UploadId.new()
        store.append(upload, [b"onetwo"], offset=0)
        assert store.append(upload, [b"new"], offset=offset) == len(expected)
        assert _staged(store, upload) == expected

    def test_append_of_nothing_cuts_too(self, store: Store) -> None:
        """An append without bytes leaves exactly the offset's number of bytes."""
        upload = UploadId.new()
        store.append(upload, [b"onetwo"], offset=0)
        assert store.append(upload, (), offset=3) == 3
        assert _staged(store, upload) == b"one"

    @pytest.mark.parametrize("held", [None, b"", b"abc"])
    def test_append_behind_the_end_is_refused(self, store: Store, held: bytes | None) -> None:
        """Bytes that the caller believes in but that are not there are never made up as zeros."""
        upload = UploadId.new()
        if held is not None:
            store.append(upload, [held], offset=0)
        with pytest.raises(BlobMissing):
            store.append(upload, [b"x"], offset=4)
        assert [_staged(store, each.upload) for each in store.staged()] == ([] if held is None else [held])

    @pytest.mark.parametrize("offset", [0, 3])
    def test_chunks_that_raise_do_not_harm_what_was_there(self, store: Store, offset: int) -> None:
        """The error comes through, bytes up to the offset stay, and the next append starts there."""
        upload = UploadId.new()
        store.append(upload, [b"one"], offset=0)

        def chunks() -> Iterator[bytes]:
            yield b"lost"
            raise _Broken

        with pytest.raises(_Broken):
            store.append(upload, chunks(), offset=offset)
        assert store.append(upload, [b"two"], offset=offset) == offset + 3
        assert _staged(store, upload) == b"one"[:offset] + b"two"

    def test_chunks_that_raise_at_once(self, store: Store) -> None:
        """An upload whose first append failed can begin again."""
        upload = UploadId.new()

        def chunks() -> Iterator[bytes]:
            yield b""
            raise _Broken

        with pytest.raises(_Broken):
            store.append(upload, chunks(), offset=0)
        assert store.append(upload, [DATA], offset=0) == len(DATA)

    def test_large_chunks_arrive_whole(self, store: Store) -> None:
        """Chunks of any size are kept byte for byte."""
        upload = UploadId.new()
        data = bytes(range(256)) * (3 * CHUNK_SIZE // 256) + b"end"
        assert store.append(upload, [data, b"", data[:7]], offset=0) == len(data) + 7
        assert _staged(store, upload) == data + data[:7]

    def test_publish_makes_a_blob(self, store: Store) -> None:
        """Published bytes are found by their digest, and the upload is gone."""
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        assert [*store.walk()] == []
        store.publish(upload, DIGEST)
        assert _read(store, DIGEST) == DATA
        assert [*store.walk()] == [StoredBlob(DIGEST, len(DATA))]
        assert [*store.staged()] == []
        with pytest.raises(BlobMissing):
            store.reopen(upload)

    def test_an_empty_blob_is_a_blob(self, store: Store) -> None:
        """No bytes at all can be published too."""
        digest = _publish(store, b"")
        assert [*store.walk()] == [StoredBlob(digest, 0)]
        assert _read(store, digest) == b""

    def test_publish_can_be_repeated(self, store: Store) -> None:
        """Publishing an upload that is gone is fine while the blob is there."""
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        store.publish(upload, DIGEST)
        store.publish(upload, DIGEST)
        store.publish(UploadId.new(), DIGEST)
        assert _read(store, DIGEST) == DATA

    def test_publish_replaces_a_damaged_copy(self, store: Store) -> None:
        """The same digest again brings verified bytes in the place of whatever was there."""
        damaged, healthy = UploadId.new(), UploadId.new()
        store.append(damaged, [b"damaged"], offset=0)
        store.publish(damaged, DIGEST)
        store.append(healthy, [DATA], offset=0)
        store.publish(healthy, DIGEST)
        assert _read(store, DIGEST) == DATA
        assert [*store.walk()] == [StoredBlob(DIGEST, len(DATA))]
        assert [*store.staged()] == []

    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize("lost", [False, True])
    def test_publish_after_prepare(self, store: Store, known: bool, lost: bool) -> None:  # noqa: FBT001
        """The upload becomes the blob, be it known already, or deleted in between."""
        upload = UploadId.new()
        if known:
            _publish(store, DATA)
        store.append(upload, [DATA], offset=0)
        store.prepare(upload, DIGEST)()
        assert _staged(store, upload) == DATA
        if lost:
            store.delete(DIGEST)
        store.publish(upload, DIGEST)
        assert _read(store, DIGEST) == DATA
        assert [*store.staged()] == []

    def test_an_upload_goes_on_after_prepare(self, store: Store) -> None:
        """If the blob was never published, what is appended, or cut off, does not change it."""
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        for again in (b" and more", b"!"):
            store.prepare(upload, DIGEST)()
            assert store.append(upload, [again], offset=len(DATA)) == len(DATA + again)
            assert _staged(store, upload) == DATA + again
            assert store.append(upload, [], offset=len(DATA)) == len(DATA)
        assert [blob.size for blob in store.walk()] in ([], [len(DATA)])
        store.publish(upload, DIGEST)
        assert _read(store, DIGEST) == DATA

    def test_an_upload_is_discarded_after_prepare(self, store: Store) -> None:
        """A blob that was never recorded may stay, and is whole."""
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        store.prepare(upload, DIGEST)()
        store.discard(upload)
        assert [*store.staged()] == []
        assert [_read(store, blob.digest) for blob in store.walk()] in ([], [DATA])
        with pytest.raises(BlobMissing):
            store.prepare(upload, DIGEST)

    @pytest.mark.parametrize("data", [DATA, b""])
    @pytest.mark.parametrize("prepared", [True, False])
    def test_documents_are_staged(self, store: Store, data: bytes, prepared: bool) -> None:  # noqa: FBT001
        """They are uploads like others, which are published, discarded, read, or go on."""
        uploads = [UploadId.new() for _ in range(3)]
        for upload in uploads:
            store.stage(upload, data)
        assert _staged(store, uploads[0]) == data
        if prepared:
            store.prepare(uploads[0], Digest.of(data))()
        store.publish(uploads[0], Digest.of(data))
        store.discard(uploads[1])
        assert store.append(uploads[2], [b" more"], offset=len(data)) == len(data) + 5
        assert _staged(store, uploads[2]) == data + b" more"
        assert _read(store, Digest.of(data)) == data
        assert [each.upload for each in store.staged()] == uploads[2:]
        for upload in uploads[:2]:
            with pytest.raises(BlobMissing):
                store.reopen(upload)

    def test_what_was_seen_is_there(self, store: Store) -> None:
        """Until it is deleted, or a reader finds that it is gone."""
        assert not store.has_seen(DIGEST, len(DATA))
        _publish(store, DATA)
        found = store.stat(DIGEST)
        assert found is not None
        assert store.has_seen(DIGEST, len(DATA)) == (not self.is_local)
        assert not store.has_seen(DIGEST, len(DATA) + 1)
        store.delete(DIGEST)
        assert not store.has_seen(DIGEST, len(DATA))

    def test_publish_of_nothing_fails(self, store: Store) -> None:
        """Neither upload nor blob: there is nothing to publish, and nothing appears."""
        with pytest.raises(BlobMissing):
            store.publish(UploadId.new(), DIGEST)
        assert [*store.walk()] == []

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_digests_of_every_algorithm_are_addresses(self, store: Store, algorithm: str) -> None:
        """The same bytes under two algorithms are two blobs."""
        digest = Digest.of(DATA, algorithm)
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        store.publish(upload, digest)
        assert [*store.walk()] == [StoredBlob(digest, len(DATA))]
        assert _read(store, digest) == DATA

    @pytest.mark.parametrize("start", [0, 1, 9, 10, 99])
    def test_open_reads_from_its_start(self, store: Store, start: int) -> None:
        """A reader stands where it was asked to; past the end there is nothing to read."""
        digest = _publish(store, DATA)
        with store.open(digest, start=start) as reader:
            assert reader.tell() == start
            assert reader.read() == DATA[start:]

    def test_readers_are_independent_of_what_follows(self, store: Store) -> None:
        """A reader goes on reading what it opened, replaced or deleted meanwhile."""
        digest = _publish(store, DATA)
        with store.open(digest) as reader:
            assert reader.read(4) == DATA[:4]
            _publish(store, DATA)
            store.delete(digest)
            assert reader.read() == DATA[4:]

    def test_open_of_nothing_fails(self, store: Store) -> None:
        """A blob that is not there is missing, whoever asks how."""
        with pytest.raises(BlobMissing):
            store.open(DIGEST)
        with pytest.raises(BlobMissing):
            store.open(DIGEST, start=1)

    def test_delete_is_for_good_and_can_be_repeated(self, store: Store) -> None:
        """The bytes go, other blobs stay, and an absent blob is fine."""
        other = _publish(store, b"other")
        digest = _publish(store, DATA)
        store.delete(digest)
        store.delete(digest)
        with pytest.raises(BlobMissing):
            store.open(digest)
        assert [*store.walk()] == [StoredBlob(other, 5)]
        assert _publish(store, DATA) == digest
        assert _read(store, digest) == DATA

    @pytest.mark.parametrize("again", [False, True])
    def test_what_was_removed_may_be_back(self, store: Store, *, again: bool) -> None:
        """Where it is kept for that; what was published meanwhile stays, and nothing is left behind."""
        digest, aside = _publish(store, b"abc"), UploadId.new()
        store.remove(digest, aside)
        assert store.stat(digest) is None
        kept = [each.upload for each in store.staged()]
        if again:
            _publish(store, b"abc")
        for _ in range(2):
            store.restore(aside, digest)
        assert (store.stat(digest) is not None) == (again or kept == [aside])
        assert [*store.staged()] == []
        store.remove(digest, other := UploadId.new())
        store.remove(digest, UploadId.new())
        store.discard(other)
        assert (store.stat(digest), [*store.staged()]) == (None, [])

    def test_walk_finds_every_blob(self, store: Store) -> None:
        """Each blob once, with its size in bytes."""
        blobs = {_publish(store, bytes(size)): size for size in (0, 1, 2, 1000)}
        assert sorted(store.walk(), key=lambda blob: blob.size) == [
            StoredBlob(digest, size) for digest, size in blobs.items()
        ]

    def test_walk_survives_changes(self, store: Store) -> None:
        """Blobs may come and go while somebody walks; those that stay are found."""
        stays = _publish(store, b"stays")
        goes = [_publish(store, bytes([number])) for number in range(5)]
        walk = store.walk()
        found = {next(walk).digest}
        for digest in goes:
            store.delete(digest)
        found |= {blob.digest for blob in walk}
        assert stays in found

    def test_reopen_reads_from_the_beginning(self, store: Store) -> None:
        """Staged bytes can be read again, as often as needed; rehash does."""
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        assert [_staged(store, upload), _staged(store, upload)] == [DATA, DATA]
        assert rehash(store, upload) == DIGEST
        assert rehash(store, upload, "sha512") == Digest.of(DATA, "sha512")

    def test_reopen_of_nothing_fails(self, store: Store) -> None:
        """An upload that nothing was appended to has no bytes."""
        with pytest.raises(BlobMissing):
            store.reopen(UploadId.new())

    def test_discard_forgets_and_can_be_repeated(self, store: Store) -> None:
        """Staged bytes go, those of others stay, and an absent upload is fine."""
        upload, other = UploadId.new(), UploadId.new()
        for each in (upload, other):
            store.append(each, [DATA], offset=0)
        store.discard(upload)
        store.discard(upload)
        store.discard(UploadId.new())
        assert [each.upload for each in store.staged()] == [other]
        with pytest.raises(BlobMissing):
            store.reopen(upload)

    def test_staged_lists_uploads_and_when_they_changed(self, store: Store) -> None:
        """Every upload with bytes, dated in aware UTC; published blobs are not among them."""
        assert [*store.staged()] == []
        _publish(store, DATA)
        uploads = {UploadId.new() for _ in range(3)}
        for upload in uploads:
            store.append(upload, [DATA], offset=0)
        staged = [*store.staged()]
        assert {each.upload for each in staged} == uploads
        assert len(staged) == 3
        for each in staged:
            assert each.modified_at.tzinfo is UTC
            assert abs(datetime.now(UTC) - each.modified_at) < timedelta(minutes=1)

    def test_uploads_are_private(self, store: Store) -> None:
        """Two uploads of the same bytes do not see each other."""
        first, second = UploadId.new(), UploadId.new()
        store.append(first, [b"first"], offset=0)
        store.append(second, [b"second"], offset=0)
        store.append(first, [b"!"], offset=5)
        assert (_staged(store, first), _staged(store, second)) == (b"first!", b"second")

    def test_reading_in_chunks_gives_everything(self, store: Store) -> None:
        """What a reader has left comes in bounded pieces, and every listener sees all of them."""
        data = bytes(CHUNK_SIZE) + b"tail"
        digest = _publish(store, data)
        seen: list[int] = []
        with store.open(digest, start=2) as reader:
            pieces = [*tee(read_chunks(reader), lambda piece: seen.append(len(piece)))]
        assert b"".join(pieces) == data[2:]
        assert seen == [len(piece) for piece in pieces] == [CHUNK_SIZE, 2]

    def test_links_are_written_replaced_and_walked(self, store: Store) -> None:
        """Each path has one content, the last written; paths are walked in order."""
        store.write_link("b/link", b"2")
        store.write_link("a/x/y/link", b"1")
        store.write_link("b/link", b"3")
        store.write_link("a/x/link", b"")
        assert [*store.walk_links()] == [("a/x/link", b""), ("a/x/y/link", b"1"), ("b/link", b"3")]

    def test_links_are_removed(self, store: Store) -> None:
        """A removed link is gone, its neighbours stay, and an absent one is fine."""
        for path in ("a/x/link", "a/y/link"):
            store.write_link(path, b"1")
        store.remove_link("a/x/link")
        store.remove_link("a/x/link")
        store.remove_link("never/was/link")
        assert [*store.walk_links()] == [("a/y/link", b"1")]
        store.write_link("a/x/link", b"2")
        store.remove_link("a/y/link")
        assert [*store.walk_links()] == [("a/x/link", b"2")]

    def test_links_have_content_and_time(self, store: Store) -> None:
        """The time is what the writer gives, to the microsecond; folders are listed with a slash."""
        at = datetime(2014, 5, 6, 7, 8, 9, 123457, tzinfo=UTC)
        store.write_link("a/b/link", b"1", at)
        store.write_link("a/0", b"2")
        assert store.read_link("a/b/link") == LinkFile(b"1", at)
        assert datetime.now(UTC) - store.read_link("a/0").at < timedelta(minutes=1)  # type: ignore[union-attr]
        assert [store.read_link(path) for path in ("a/c", "c/link", "a/0/link")] == [None, None, None]
        assert [store.list_links(path) for path in ("", "a", "a/b", "c")] == [
            ["a/"],
            ["0", "b/"],
            ["link"],
            [],
        ]

    def test_folders_are_set_aside(self, store: Store) -> None:
        """At once; they come back beside what was written since, or are dropped."""
        for path in ("a/x/1/link", "a/x/2/link", "a/y/link"):
            store.write_link(path, b"old")
        paths = ("a/x/1", "b", "a/x/2", "a/y/link/c")
        aside, folders = UploadId.new(), [FolderLinks(path, ("absent", "link")) for path in paths]
        store.set_aside(aside, *folders)
        assert [*store.walk_links()] == [("a/y/link", b"old")]
        assert store.list_links("a") == ["y/"]
        store.write_link("a/x/1/link", b"new")
        store.bring_back(aside, *folders)
        assert [content for _, content in store.walk_links()] == [b"new", b"old", b"old"]
        for remove in (store.drop, store.discard):  # the latter is for what a crash leaves
            left = UploadId.new()
            store.set_aside(left, FolderLinks("a", ("link", "x/1/link", "x/2/link", "y/link")))
            remove(left)
            remove(left)
            assert [*store.walk_links()] == [*store.staged()] == []
            store.write_link("a/link", b"1")

    def test_links_are_staged(self, store: Store) -> None:
        """They have no names until they are placed, where they replace others; what is left is dropped."""
        at = datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
        places = [("a", "link"), ("b/c", "d/link"), ("b/e", "f/link"), ("same", "link"), ("a/new", "link")]
        store.write_link("a/link", b"old")
        store.write_link("same/link", b"new", at)
        staged, waited = [StagedLink(UploadId.new(), *place, b"new", at) for place in places], list[str]()
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        store.stage_links(staged, [lambda: waited.append("once"), store.prepare(upload, DIGEST)])
        store.publish(upload, DIGEST)
        assert waited == ["once"]
        store.write_link("b/e/g/link", b"made meanwhile")
        store.write_link("same/link", b"replaced meanwhile")
        store.place_links(staged[:4])
        for path in ("a/link", "b/c/d/link", "b/e/f/link", "same/link"):
            assert store.read_link(path) == LinkFile(b"new", at)
        assert len([*store.walk_links()]) == 5
        for link in staged:
            store.drop(link.upload)
        assert [*store.staged()] == []

    def test_staged_links_keep_the_time_of_what_is_right(self, store: Store) -> None:
        """If that is asked for: a file of other content is replaced, and one made meanwhile may be."""
        old, new = datetime(2020, 1, 2, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=UTC)
        store.write_link("same/link", b"1", old)
        store.write_link("other/link", b"2", old)
        names = ("same", "other", "none")
        staged = [StagedLink(UploadId.new(), name, "link", b"1", new, once=True) for name in names]
        store.stage_links(staged)
        store.place_links(staged)
        found = [store.read_link(link.path) for link in staged]
        assert found == [LinkFile(b"1", old), LinkFile(b"1", new), LinkFile(b"1", new)]

    def test_private_files(self, store: Store) -> None:
        """One content by name, the last written."""
        assert store.read_private("x.json") is None
        store.write_private("x.json", b"1")
        store.write_private("x.json", b"2")
        assert store.read_private("x.json") == b"2"
        assert [*store.walk_links()] == [*store.staged()] == []

    def test_no_links(self, store: Store) -> None:
        """A new store has no links."""
        assert [*store.walk_links()] == []

    def test_links_and_blobs_do_not_meet(self, store: Store) -> None:
        """Names and bytes are walked apart."""
        _publish(store, DATA)
        store.write_link("a/link", b"1")
        assert len([*store.walk()]) == len([*store.walk_links()]) == 1
        assert [*store.staged()] == []

    def test_names_become_the_reference_registrys_links(self, store: Store) -> None:
        """Every kind of name has its path, in the tree that the reference registry reads."""
        links, repository = Links(store), RepositoryName("library/x")
        image = ImageId("a" * 64)
        links.add_blob(repository, DIGEST)
        links.add_manifest(repository, DIGEST)
        links.point_tag(repository, Tag("v1"), DIGEST)
        links.add_v1_image(repository, image, {"parent": None, "json": "x"})
        content = str(DIGEST).encode()
        assert [*store.walk_links()] == [
            (f"library/x/_layers/sha256/{DIGEST.hex}/link", content),
            (f"library/x/_manifests/revisions/sha256/{DIGEST.hex}/link", content),
            ("library/x/_manifests/tags/v1/current/link", content),
            (f"library/x/_v1/{image}", b'{"json": "x", "parent": null}'),
        ]
        links.remove_blobs(repository, DIGEST)
        links.remove_manifests(repository, {DIGEST: ()})
        links.remove_tags(repository, Tag("v1"))
        assert [path for path, _ in store.walk_links()] == [f"library/x/_v1/{image}"]
