"""V1 images: one layer each, with a JSON and a parent.

A client pushes an image in three steps (JSON, layer, checksum); after the last one it is complete and never
changes. Images that are derived from manifests are recorded complete, without a checksum.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, RepositoryRow, SentLayer, V1ImageRow
from dualreg.catalog.views import V1
from dualreg.errors import (
    ChecksumMismatch,
    ImageExists,
    ImageIncomplete,
    ImageInvalid,
    ImageUnknown,
    RepositoryUnknown,
    UploadBusy,
)
from dualreg.image.digest import Digest
from dualreg.image.layer import LayerHasher, have_same_files
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.v1_image import V1Image, payload_hasher
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.leases import LEASE
from dualreg.registry.pages import IMAGES_LIMIT, require_short
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.registry.v1_comparison import RecordedAs, recorded_as
from dualreg.registry.v1_holds import HOLD, check_parent, holding, is_begun
from dualreg.registry.v1_imported import ImportedImage, blobs_of
from dualreg.registry.v1_repairs import V1Repairs, v1_facts, write_v1_link
from dualreg.registry.v1_sent import SentLayers
from dualreg.registry.visibility import log_unseen
from dualreg.storage.base import tee
from dualreg.storage.links import staged_v1_image
from dualreg.storage.staging import Staging

#: How often an import is tried while clients push the same image.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class V1Images:
    """Receives, finds and lists V1 images, each of which belongs to one repository."""

    state: State
    documents: DocumentCache
    uploads: Uploads
    repairs: V1Repairs
    sent: SentLayers

    def begin(self, repository: RepositoryName, image: ImageId, json: bytes) -> None:
        """Store an image's JSON; the layer is expected next.

        With the same JSON again, a layer that has arrived is kept. With another JSON, the image starts over,
        unless a client is still pushing it: which layer belongs to which JSON could not be known then. Of an
        image that is complete but lost or damaged, the same JSON is stored again.

        Raises:
            ImageInvalid: it is not the JSON of *image*, or the repository does not have its parent.
            ImageExists: the image is complete, and not lost.
            UploadBusy: a client that has sent another JSON sent something of it within HOLD.

        Source: docker-registry 0.9, ``images.py`` (put_image_json), in the order of its checks.
        """
        document = V1Image.parse(json)
        if document.id != image:
            raise ImageInvalid(reason="JSON data contains invalid id")
        try:
            self._begin(repository, document, Digest.of(json))
        except ImageExists:
            if not self.repairs.take_json(repository, image, json):
                self._find(repository, image)  # which promises it: the client takes it as pushed
                raise

    def _begin(self, repository: RepositoryName, document: V1Image, digest: Digest) -> None:
        image, json = document.id, document.json
        blob = BlobRow(digest, len(json))
        with (
            self.state.staged(json) as (upload,),
            self.state.arriving(repository, (upload, blob), early=False) as arriving,
            self.state.begin() as tx,
        ):
            row = tx.repositories.ensure(repository)
            check_parent(tx, repository, document)
            if is_begun(tx, repository, image, digest):
                return
            arriving.admit(tx, row)
            idle_since = self.state.catalog.now() - HOLD
            begun = tx.v1_images.begin(row.id, document, digest, idle_since=idle_since)
            if not begun and not is_begun(tx, repository, image, digest):
                raise UploadBusy(id=image, retry_after=HOLD.seconds)

    def put_layer(self, repository: RepositoryName, image: ImageId, chunks: Iterable[bytes]) -> None:
        """Store an image's layer as sent; diff ID and payload checksum are computed in the same pass.

        Releases compress the same files differently, so what several clients send at once is kept until
        one of them has completed the image. The layer of a complete image is accepted if it is the same, and
        kept if the image's own is lost.

        Raises:
            ImageUnknown: its JSON has not been pushed.
            ImageExists: the image is complete, with other files.
            ImageInvalid: the layer cannot be decompressed.
            UploadBusy: another client has started the image anew.
            BodyTruncated.
        """
        row = self._find(repository, image)
        layer, checksum = LayerHasher(), payload_hasher(self.documents.read(row.json))
        verified = _verified(tee(chunks, checksum.update), layer)
        if row.complete and not self.repairs.has_layer(row):
            self.repairs.take_layer(repository, row, verified, layer, checksum)
            return
        if row.complete:
            deque(verified, maxlen=0)
            self._accept_same(repository, row, SentLayer(None, layer.diff_id(), checksum.digest()))
            return
        held = holding(self.state.catalog, row, verified)
        blob = self.uploads.ingest(repository, held, digest=layer.digest)
        sent = SentLayer(blob.digest, layer.diff_id(), checksum.digest())
        with self.state.begin() as tx:
            tx.repositories.lock(repository)
            linked = tx.blobs.lock(row.repository_id, blob.digest)
            attached = linked and tx.v1_images.attach(row, sent)
        if not attached:
            self._accept_same(repository, row, sent)

    def put_checksum(
        self, repository: RepositoryName, image: ImageId, payload: Digest | None, tarsum: str | None = None
    ) -> None:
        """Complete the image with the layer whose payload checksum is *payload*; None: the client is too old.

        It may be repeated for a complete image, with the checksum of any layer of the same files that was
        sent for it. A *tarsum* is recorded, and compared with the layer if there is no *payload*; a wrong one
        is logged, but not refused.

        Raises:
            ImageUnknown, ImageIncomplete: its JSON or layer has not been pushed.
            ChecksumMismatch: no such layer was sent, or another client has completed the image with other
                files; an incomplete image stays so, and its JSON and layer may be pushed again.
            UploadBusy: another client has started the image anew.
            ServerBusy: too many layers are being read through.
        """
        row = self._find(repository, image)
        sent = self.sent.choose(row, payload, tarsum)
        if not row.complete:
            if tarsum:
                verified = None if payload else self.sent.is_tarsum_of(tarsum, row, sent)
                row = replace(row, tarsum=tarsum, tarsum_verified=verified)
            row = self._complete(repository, row, sent)
        if not have_same_files(row.diff_id, sent.diff_id):
            raise ChecksumMismatch(
                id=image, expected=str(row.checksum), stated=None if payload is None else str(payload)
            )

    def holder(self, image: ImageId, reach: Reach) -> RepositoryName:
        """Return a repository of *reach* that has the complete image, for requests that name no repository.

        Raises:
            ImageUnknown.
        """
        with self.state.catalog.read() as tx:
            holders = tx.v1_images.holders(image, reach)
        if not holders:
            raise ImageUnknown(id=image)
        return holders[0]

    def get(self, repository: RepositoryName, image: ImageId) -> V1ImageRow:
        """Return a complete image.

        Raises:
            ImageUnknown, ImageIncomplete.
        """
        row = self.peek(repository, image)
        if row is None and self.state.upstream.load_image(repository, image):
            return self.get(repository, image)
        return _require_complete(row, image)

    def promise(self, repository: RepositoryName, image: ImageId) -> V1ImageRow:
        """Return a complete image whose JSON and layer the store has, and keep it for half the grace.

        A client that hears so need not push it.

        Raises:
            ImageUnknown: either is lost or damaged, so that clients send them; or there is no such image.
            ImageIncomplete.
        """
        row = self.get(repository, image)
        if not self._promise(repository, row):
            row = self.get(repository, image)
        self.require(row)
        return row

    def require(self, row: V1ImageRow) -> None:
        """Raise ImageUnknown if the JSON or the layer of a complete image is lost or damaged."""
        if self.repairs.is_lost(row):
            raise ImageUnknown(id=row.id)

    def unchanged_until(self, row: V1ImageRow) -> datetime | None:
        """Return when ``promise``, which returned *row*, has to be called again if no row has changed."""
        return self.state.promised_until(row.promised_at)

    def _promise(self, repository: RepositoryName, row: V1ImageRow) -> bool:
        """Keep a complete image for half the grace at least; return whether that was promised before."""
        promised = row.promised_at is not None and self.state.is_promised(row.promised_at)
        if not promised:
            self.state.renew(repository, row.json)
        return promised

    def peek(self, repository: RepositoryName, image: ImageId) -> V1ImageRow | None:
        """Return an image in this registry, complete or not, without asking upstream."""
        with self.state.catalog.read() as tx:
            return tx.v1_images.find(repository, image)

    def peek_anywhere(self, image: ImageId) -> V1ImageRow | None:
        """Return an image that is complete in any repository, as ``peek``."""
        with self.state.catalog.read() as tx:
            holders = tx.v1_images.holders(image, EVERYWHERE)
            return tx.v1_images.find(holders[0], image) if holders else None

    def peek_ancestry(self, repository: RepositoryName, image: ImageId) -> tuple[V1ImageRow, ...]:
        """Return an image and its ancestors, image first, as ``peek``; empty if there is no such image."""
        with self.state.catalog.read() as tx:
            return tx.v1_images.ancestry(repository, image)

    def json(self, row: V1ImageRow) -> bytes:
        """Return the image's JSON, byte for byte as pushed."""
        return self.documents.read(row.json)

    def ancestry(self, repository: RepositoryName, image: ImageId) -> tuple[V1ImageRow, ...]:
        """Return a complete image and its ancestors, the image first, the base last.

        Raises:
            ImageUnknown, ImageIncomplete.
        """
        rows = self.peek_ancestry(repository, image)
        for row in rows:
            _require_complete(row, row.id)
        if not rows and self.state.upstream.load_image(repository, image):
            return self.ancestry(repository, image)
        if not rows:
            raise ImageUnknown(id=image)
        return rows

    def list(self, repository: RepositoryName, available: Collection[ImageId] = ()) -> tuple[ImageId, ...]:
        """Return the IDs of the repository's complete images, and those *available* upstream.

        Raises:
            RepositoryUnknown, ListTooLong.
        """
        with self.state.catalog.read() as tx:
            if not available and tx.repositories.find(repository) is None:
                raise RepositoryUnknown(name=repository)
            images = tx.v1_images.list(repository, limit=IMAGES_LIMIT + 1)
        require_short(repository, len(images), IMAGES_LIMIT, "images")
        return tuple(dict.fromkeys((*images, *available)))

    def import_images(
        self, repository: RepositoryName, images: Sequence[tuple[ImportedImage, Staging | None]]
    ) -> None:
        """Record a few complete images with their JSONs and layers, in one transaction; parents come first.

        Args:
            images: Each with its layer's bytes; None: the store has them already.

        Raises:
            ImageExists: another image is complete under one of these IDs; nothing was recorded.
            BlobDamaged: the catalog knows a JSON or layer with another size.
        """
        for _ in range(_ATTEMPTS):
            with self.state.catalog.read() as tx:
                row = tx.repositories.find(repository) or RepositoryRow(0, repository)  # which has no images
            given = [(image.row(row.id), image.document.json) for image, _ in images]
            recorded = recorded_as(self.state, self.documents, row, given)
            if recorded.contradicted:
                raise ImageExists(id=recorded.contradicted[0])
            if self._import(row, images, recorded):
                return
        raise ImageExists(id=images[0][0].document.id)

    def _import(
        self,
        row: RepositoryRow,
        images: Sequence[tuple[ImportedImage, Staging | None]],
        recorded: RecordedAs,
    ) -> bool:
        """Record images as ``import_images``; return False if an ID was pushed since *recorded* was read.

        An image that was derived from a manifest and means the same gives way to it; one that a client pushed
        stays as that client wrote it.
        """
        wanted = [each for each in images if not recorded.is_pushed_otherwise(each[0].row(row.id))]
        with (
            self.state.staged(*(image.document.json for image, _ in wanted)) as documents,
            self.state.arriving(row.name, *blobs_of(wanted, documents)) as arriving,
            self.state.begin() as tx,
        ):
            repository = tx.repositories.ensure(row.name, exclusive=True)
            if not recorded.is_current(tx, repository):
                return False
            arriving.admit(tx, repository)
            self.record(tx, repository, [image.row(repository.id) for image, _ in wanted], same=True)
        return True

    def forget(self, repository: RepositoryName, image: ImageId) -> bool:
        """Forget an image unless a manifest is seen as it or another builds on it; return whether it went."""
        with self.state.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=True)
            if row is None or not tx.v1_images.remove(row.id, image):
                return False
            self.state.links.remove_v1_images(repository, image)
        return True

    def record(
        self, tx: Transaction, repository: RepositoryRow, images: Iterable[V1ImageRow], *, same: bool = False
    ) -> None:
        """Record complete images within a transaction: rows first, then link files.

        A manifest whose V1 view was another image under one of their IDs has no V1 view from then on.

        Args:
            same: Images that the repository has under their IDs mean the same.
        """
        changed = [image for image in images if tx.v1_images.record(image)]
        for manifest, view in () if same else tx.views.hide(repository.id, [image.id for image in changed]):
            log_unseen(tx, repository, manifest, [view])
            self.state.links.record_view(repository.name, manifest, V1, None)
        for image in changed:
            write_v1_link(self.state, repository, image)

    def _find(self, repository: RepositoryName, image: ImageId) -> V1ImageRow:
        """Return an image, complete or not; its client takes a complete one as pushed, so it is promised."""
        row = self.peek(repository, image)
        if row is None:
            raise ImageUnknown(id=image)
        if row.complete:
            self._promise(repository, row)
            self.state.catalog.settle()
        return row

    def _accept_same(self, repository: RepositoryName, image: V1ImageRow, sent: SentLayer) -> None:
        """Accept a layer for an image that is complete, if that is the same image.

        Raises:
            UploadBusy: another client has started it anew, or the layer was deleted meanwhile.
            ImageExists: it has other files or another parent.
        """
        with self.state.begin() as tx:
            tx.repositories.lock(repository)
            found = tx.v1_images.find(repository, image.id)
            if found is None or not found.complete:
                raise UploadBusy(id=image.id, retry_after=LEASE.seconds)
            if found.parent != image.parent or not have_same_files(found.diff_id, sent.diff_id):
                raise ImageExists(id=image.id)
            tx.v1_images.add_sent(found, sent)

    def _complete(self, repository: RepositoryName, row: V1ImageRow, sent: SentLayer) -> V1ImageRow:
        """Complete the image with *sent*, unless another client was faster; return the complete image.

        Raises:
            UploadBusy: another client has started it anew, or the layer was deleted meanwhile.
        """
        completed = replace(row, layer=sent.layer, diff_id=sent.diff_id, checksum=sent.checksum)
        links = [staged_v1_image(repository, row.id, v1_facts(completed), self.state.catalog.now())]
        with self.state.links.staged(links), self.state.begin() as tx:
            tx.repositories.lock(repository)
            linked = sent.layer and tx.blobs.lock(row.repository_id, sent.layer)
            if linked and tx.v1_images.complete(row, sent):
                self.state.links.place(links)
                return completed
        found = self._find(repository, row.id)
        if not found.complete:
            raise UploadBusy(id=row.id, retry_after=LEASE.seconds)
        return found


def _verified(chunks: Iterable[bytes], layer: LayerHasher) -> Iterator[bytes]:
    """Yield a layer's *chunks*; raise at the end if its compressed stream is cut short."""
    yield from tee(chunks, layer.update)
    layer.diff_id()


def _require_complete(row: V1ImageRow | None, image: ImageId) -> V1ImageRow:
    if row is None:
        raise ImageUnknown(id=image)
    if not row.complete:
        raise ImageIncomplete(id=image)
    return row
