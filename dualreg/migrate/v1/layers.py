"""Layers: an image's layer on its way from the old registry's file into the store, read once."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import DiffIdHasher
from dualreg.image.names import UploadId
from dualreg.image.tar import members
from dualreg.image.tarsum import is_tarsum, verify_tarsum
from dualreg.image.v1_image import payload_hasher
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.journal import LayerFacts
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.transfer import Way, reading, show, stage
from dualreg.storage.base import BlobStore, read_chunks


@dataclass(frozen=True, slots=True)
class Staged:
    """A layer that lies in the store under an upload's name, with what it was found to be."""

    upload: UploadId
    blob: BlobRow
    facts: LayerFacts


@contextmanager
def staged(store: BlobStore, source: SourceImage, way: Way) -> Iterator[Staged]:
    """Stage the layer of *source* for the block; the payload checksum, digest and diff id come from one pass.

    What is hashed is what was staged, whatever happens to the old registry's file meanwhile.

    Args:
        way: See ``transfer.stage``.

    Raises:
        Broken: the layer is not what was stated of it, or does not decompress.
    """
    upload, passed = UploadId.new(), _Reading(source)
    try:
        with passed.trouble():
            stage(store, upload, source.layer, way, passed.update)
        facts = passed.facts(lambda: store.reopen(upload))
        yield Staged(upload, BlobRow(Digest.parse(facts.layer), facts.size), facts)
    finally:
        store.discard(upload)


def examine(source: SourceImage) -> LayerFacts:
    """Read a layer through, and leave it where it is.

    Raises:
        Broken: as ``staged``.
    """
    passed = _Reading(source)
    with passed.trouble():
        show(source.layer, passed.update)
    return passed.facts(source.layer.open)


class _Reading:
    """One pass over a layer: its digest, its payload checksum, and the digest of what is inside."""

    def __init__(self, source: SourceImage) -> None:
        self._source = source
        self._digest = Hasher()
        self._json = source.json()
        self._payload = payload_hasher(self._json)
        self._diff_id = DiffIdHasher()
        self._size = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        for hasher in (self._digest, self._payload, self._diff_id):
            hasher.update(data)

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Say of the image what goes wrong in the block."""
        try:
            with reading(self._source.id):
                yield
        except ImageInvalid as error:
            raise _damaged(self._source, str(error.detail.get("reason", error))) from error

    def facts(self, reopen: Callable[[], BinaryIO]) -> LayerFacts:
        """Return what was found, held against what was stated of it."""
        with self.trouble():
            inside = self._diff_id.digest()
        checksum = self._payload.digest()
        verified = _verified(self._source, self._json, checksum, reopen)
        if not verified:
            with self.trouble(), reopen() as layer:
                deque(members(read_chunks(layer)), maxlen=0)  # at least it has to be a tar
        return LayerFacts(
            size=self._size,
            mtime=self._source.layer.changed,
            json=str(Digest.of(self._json)),
            layer=str(self._digest.digest()),
            diff_id=str(inside),
            checksum=str(checksum),
            verified=verified,
        )


def _verified(source: SourceImage, json: bytes, checksum: Digest, reopen: Callable[[], BinaryIO]) -> bool:
    """Tell whether something that was stated proves the layer.

    Raises:
        Broken: something that was stated says that it is another one.
    """
    payloads = [stated for stated in source.checksums if stated.startswith("sha256:")]
    if str(checksum) in payloads:
        return True
    if payloads:
        raise _damaged(source, f"its checksum is {checksum}, stated was {payloads[0]}")
    for stated in filter(is_tarsum, source.checksums):
        with reopen() as layer:
            if verify_tarsum(stated, json, read_chunks(layer)):
                return True
    if source.marked:
        raise Broken(Kind.PARTIAL, source.id, "marked as being pushed, and nothing proves it whole")
    return False


def _damaged(source: SourceImage, text: str) -> Broken:
    """A push that was given up explains it, if there is a mark of one."""
    return Broken(Kind.PARTIAL if source.marked else Kind.CORRUPT, source.id, text)
