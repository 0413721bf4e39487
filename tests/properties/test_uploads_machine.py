"""A state machine of uploads: whatever clients do in whichever order, a model of a few lines agrees."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dualreg.errors import BlobUnknown, BodyTruncated, DigestMismatch, RangeInvalid, UploadUnknown
from dualreg.image.digest import HEX_DIGITS, Digest
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry.at_once import SHORT
from tests.properties.registries import fresh_registry, read_blob
from tests.soak import short_or_long

REPOSITORIES = [RepositoryName("x"), RepositoryName("library/y")]
CHUNKS = st.lists(st.sampled_from([b"", b"a", b"bc", b"d" * 1000]), max_size=3)
ALGORITHMS = st.sampled_from(sorted(HEX_DIGITS))
Session = tuple[RepositoryName, UploadId]


def _untouchable() -> Iterator[bytes]:
    pytest.fail("a body was read although the request is refused")
    yield b""


def _long() -> Iterator[bytes]:
    """Yield what fits into memory, of which a request may read a part before it is refused."""
    yield bytes(SHORT)
    yield b"!"
    pytest.fail("a long body was read although the request is refused")


def _truncated(chunks: list[bytes]) -> Iterator[bytes]:
    yield from chunks
    raise BodyTruncated(received=sum(map(len, chunks)))


class Uploads(RuleBasedStateMachine):
    """Uploads in two repositories, against the bytes that each should hold."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        """Begin with an empty registry."""
        super().__init__()
        self._stack = ExitStack()
        self.registry = self._stack.enter_context(fresh_registry())
        self.uploads = self.registry.uploads
        self.held: dict[Session, bytes] = {}
        self.blobs: dict[tuple[RepositoryName, Digest], bytes] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        self._stack.close()

    def _offset(self, session: Session, *, said: bool) -> int | None:
        return len(self.held[session]) if said else None

    @rule(target=sessions, repository=st.sampled_from(REPOSITORIES))
    def start(self, repository: RepositoryName) -> Session:
        """A new upload is empty and unlike every other."""
        upload = self.uploads.start(repository)
        assert (upload.repository, upload.offset) == (repository, 0)
        assert (repository, upload.id) not in self.held
        self.held[repository, upload.id] = b""
        return repository, upload.id

    @rule(session=sessions, chunks=CHUNKS, said=st.booleans())
    def append(self, session: Session, chunks: list[bytes], *, said: bool) -> None:
        """Bytes go where the upload ends, whether the client says where that is or not."""
        upload = self.uploads.append(*session, chunks, offset=self._offset(session, said=said))
        self.held[session] += b"".join(chunks)
        assert upload.offset == len(self.held[session])

    @rule(session=sessions, off=st.integers(-3, 3).filter(bool), finish=st.booleans())
    def write_elsewhere(self, session: Session, off: int, *, finish: bool) -> None:
        """Bytes for another offset are refused, and the client is told the right one."""
        offset = max(0, len(self.held[session]) + off)
        if offset == len(self.held[session]):
            return
        with pytest.raises(RangeInvalid) as caught:  # noqa: PT012 -- either of two calls
            if finish:
                self.uploads.finish(*session, Digest.of(b""), _untouchable(), offset=offset)
            else:
                self.uploads.append(*session, _long(), offset=offset)
        assert caught.value.offset == len(self.held[session])

    @rule(session=sessions, chunks=CHUNKS, finish=st.booleans())
    def write_truncated(self, session: Session, chunks: list[bytes], *, finish: bool) -> None:
        """A body that ends early fails, even under the right digest, but what arrived counts."""
        digest = Digest.of(self.held[session] + b"".join(chunks))
        with pytest.raises(BodyTruncated):  # noqa: PT012 -- either of two calls
            if finish:
                self.uploads.finish(*session, digest, _truncated(chunks))
            else:
                self.uploads.append(*session, _truncated(chunks))
        self.held[session] += b"".join(chunks)

    @rule(session=consumes(sessions), chunks=CHUNKS, algorithm=ALGORITHMS, said=st.booleans())
    def finish(self, session: Session, chunks: list[bytes], algorithm: str, *, said: bool) -> None:
        """Under its own digest an upload becomes a blob, and ceases to be."""
        offset = self._offset(session, said=said)
        data = self.held.pop(session) + b"".join(chunks)
        digest = Digest.of(data, algorithm)
        blob = self.uploads.finish(*session, digest, chunks, offset=offset)
        assert (blob.digest, blob.size) == (digest, len(data))
        self.blobs[session[0], digest] = data
        assert self.uploads.finish(*session, digest, _untouchable()) == blob  # a repetition

    @rule(session=sessions, chunks=CHUNKS, algorithm=ALGORITHMS)
    def finish_wrongly(self, session: Session, chunks: list[bytes], algorithm: str) -> None:
        """Under another digest nothing happens: the upload is what it was."""
        with pytest.raises(DigestMismatch):
            self.uploads.finish(*session, Digest.of(b"something else", algorithm), chunks)

    @rule(session=consumes(sessions))
    def cancel(self, session: Session) -> None:
        """A cancelled upload is gone."""
        del self.held[session]
        self.uploads.cancel(*session)
        for call in (self.uploads.status, self.uploads.cancel):
            with pytest.raises(UploadUnknown):
                call(*session)

    @rule(session=sessions)
    def use_from_elsewhere(self, session: Session) -> None:
        """Another repository does not know the upload, whatever it wants of it."""
        repository, upload = session
        (other,) = (name for name in REPOSITORIES if name != repository)
        with pytest.raises(UploadUnknown):
            self.uploads.status(other, upload)
        with pytest.raises(UploadUnknown):
            self.uploads.append(other, upload, _long())
        with pytest.raises(UploadUnknown):
            self.uploads.finish(other, upload, Digest.of(b"nobody has this"), _untouchable())
        with pytest.raises(UploadUnknown):
            self.uploads.cancel(other, upload)

    @rule(repository=st.sampled_from(REPOSITORIES), chunks=CHUNKS, right=st.booleans())
    def ingest(self, repository: RepositoryName, chunks: list[bytes], *, right: bool) -> None:
        """A whole blob in one call is all there, or not at all."""
        data = b"".join(chunks)
        if right:
            blob = self.uploads.ingest(repository, chunks, expected=Digest.of(data))
            self.blobs[repository, blob.digest] = data
            return
        with pytest.raises(DigestMismatch):
            self.uploads.ingest(repository, chunks, expected=Digest.of(b"something else"))
        with pytest.raises(BodyTruncated):
            self.uploads.ingest(repository, _truncated(chunks))

    @invariant()
    def uploads_hold_what_arrived(self) -> None:
        """Every upload has the offset and the bytes that its client believes in."""
        for session, data in self.held.items():
            assert self.uploads.status(*session).offset == len(data)
        state = self.uploads.state
        with state.catalog.read() as tx:
            rows = {upload: tx.uploads.find(repository, upload) for repository, upload in self.held}
        names = {row.staged: upload for upload, row in rows.items() if row}
        held = {upload: data for (_, upload), data in self.held.items()}
        for staged in state.store.staged():
            data = held[names[staged.upload]]
            with state.store.reopen(staged.upload) as reader:
                assert reader.read(len(data)) == data

    @invariant()
    def blobs_are_whole_and_private(self) -> None:
        """Every blob reads as what was sent, in the repositories that it was sent to and no other."""
        for (repository, digest), data in self.blobs.items():
            assert read_blob(self.registry, repository, digest) == data
            (other,) = (name for name in REPOSITORIES if name != repository)
            if (other, digest) not in self.blobs:
                with pytest.raises(BlobUnknown):
                    self.registry.blobs.stat(other, digest)


Uploads.TestCase.settings = settings(
    max_examples=short_or_long(25, 1000),
    stateful_step_count=20,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestUploads = Uploads.TestCase
