"""V1 images: one layer each, with a JSON and a parent, and the files in their layers.

A client pushes an image in three steps (JSON, layer, checksum); after the last one it is complete and never
changes. Images that are derived from manifests are recorded complete, without a checksum.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, RepositoryRow, V1ImageRow
from dualreg.catalog.v1_images import CHAIN_LIMIT
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
from dualreg.image.layer import DiffIdHasher
from dualreg.image.listing import File, changes, files
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.tarsum import verify_tarsum
from dualreg.image.v1_image import V1Image, payload_hasher
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.storage.base import read_chunks, tee
from dualreg.storage.staging import Staging

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """A V1 image with everything that a client pushes of it, for ``V1Images.import_image``.

    Attributes:
        checksum: The payload checksum.
        tarsum: As its client stated it, if it did.
        tarsum_verified: Whether that agrees with the layer; None if the payload checksum proved the layer.
    """

    document: V1Image
    layer: BlobRow
    diff_id: Digest
    checksum: Digest
    tarsum: str | None = None
    tarsum_verified: bool | None = None

    def row(self, repository_id: int) -> V1ImageRow:
        """Return the catalog's form of the image."""
        return V1ImageRow(
            repository_id,
            self.document.id,
            self.document.parent,
            Digest.of(self.document.json),
            self.layer.digest,
            self.layer.size,
            self.diff_id,
            self.checksum,
            complete=True,
            tarsum=self.tarsum,
            tarsum_verified=self.tarsum_verified,
        )


@dataclass(frozen=True, slots=True)
class V1Images:
    """Receives, finds and lists V1 images, each of which belongs to one repository."""

    state: State
    documents: DocumentCache
    uploads: Uploads

    def begin(self, repository: RepositoryName, image: ImageId, json: bytes) -> None:
        """Store an image's JSON; the layer is expected next.

        With the same JSON again, a layer that has arrived is kept; with another JSON, the image starts over.

        Raises:
            ImageInvalid: it is not the JSON of *image*, or the repository does not have its parent.
            ImageExists: the image is complete.

        Source: docker-registry 0.9, ``images.py`` (put_image_json), in the order of its checks.
        """
        document = V1Image.parse(json)
        if document.id != image:
            raise ImageInvalid(reason="JSON data contains invalid id")
        digest = Digest.of(json)
        with self.state.staged(json) as (upload,), self.state.catalog.begin() as tx:
            row = tx.repositories.ensure(repository)
            _check_parent(tx, repository, document)
            begun = tx.v1_images.find(repository, image)
            if begun and begun.complete:
                raise ImageExists(id=image)
            if begun and begun.json == digest:
                return
            self.state.admit(tx, row, upload, BlobRow(digest, len(json)))
            if not tx.v1_images.begin(row.id, document, digest):
                raise ImageExists(id=image)

    def put_layer(self, repository: RepositoryName, image: ImageId, chunks: Iterable[bytes]) -> None:
        """Store an image's layer as sent; diff ID and payload checksum are computed in the same pass.

        Raises:
            ImageUnknown: its JSON has not been pushed.
            ImageExists: the image is complete.
            ImageInvalid: the layer cannot be decompressed.
            BodyTruncated.
        """
        row = self._find(repository, image)
        if row.complete:
            raise ImageExists(id=image)
        diff_id = DiffIdHasher()
        checksum = payload_hasher(self.documents.read(row.json))
        blob = self.uploads.ingest(repository, _verified(tee(chunks, checksum.update), diff_id))
        with self.state.catalog.begin() as tx:
            linked = tx.blobs.lock(row.repository_id, blob.digest)
            attached = linked and tx.v1_images.attach(row, blob.digest, diff_id.digest(), checksum.digest())
        if not attached:
            self._check_race(repository, row)

    def put_checksum(
        self, repository: RepositoryName, image: ImageId, payload: Digest | None, tarsum: str | None = None
    ) -> None:
        """Complete the image if *payload* is its payload checksum; None: the client is too old to send one.

        It may be repeated for a complete image with the same checksum. A *tarsum* is recorded, and compared
        with the layer if there is no *payload*; a wrong one is logged, but not refused.

        Raises:
            ImageUnknown, ImageIncomplete: its JSON or layer has not been pushed.
            ChecksumMismatch: the image stays incomplete; JSON and layer may be pushed again.
        """
        row = self._find(repository, image)
        if row.layer is None:
            raise ImageIncomplete(id=image)
        if payload not in (None, row.checksum):
            raise ChecksumMismatch(id=image, expected=str(row.checksum))
        if row.complete:
            return
        if tarsum:
            verified = None if payload else self._is_tarsum_of(tarsum, row)
            row = replace(row, tarsum=tarsum, tarsum_verified=verified)
        with self.state.catalog.begin() as tx:
            completed = tx.v1_images.complete(row)
            if completed:
                self._write_link(RepositoryRow(row.repository_id, repository), row)
        if not completed:
            self._check_race(repository, row)

    def holder(self, image: ImageId, reach: Reach) -> RepositoryName:
        """Return a repository of *reach* that has the complete image, for requests that name no repository.

        Raises:
            ImageUnknown.
        """
        with self.state.catalog.read() as tx:
            found = tx.v1_images.holder(image, reach)
        if found is None:
            raise ImageUnknown(id=image)
        return found

    def get(self, repository: RepositoryName, image: ImageId) -> V1ImageRow:
        """Return a complete image.

        Raises:
            ImageUnknown, ImageIncomplete.
        """
        row = self.peek(repository, image)
        if row is None and self.state.upstream.load_image(repository, image):
            return self.get(repository, image)
        return _require_complete(row, image)

    def peek(self, repository: RepositoryName, image: ImageId) -> V1ImageRow | None:
        """Return an image in this registry, complete or not, without asking upstream."""
        with self.state.catalog.read() as tx:
            return tx.v1_images.find(repository, image)

    def peek_anywhere(self, image: ImageId) -> V1ImageRow | None:
        """Return an image that is complete in any repository, as ``peek``."""
        with self.state.catalog.read() as tx:
            holder = tx.v1_images.holder(image, EVERYWHERE)
            return tx.v1_images.find(holder, image) if holder else None

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
            RepositoryUnknown.
        """
        with self.state.catalog.read() as tx:
            if not available and tx.repositories.find(repository) is None:
                raise RepositoryUnknown(name=repository)
            return tuple(dict.fromkeys((*tx.v1_images.list(repository), *available)))

    def import_image(
        self, repository: RepositoryName, image: ImportedImage, layer: Staging | None = None
    ) -> None:
        """Record a complete image with its JSON and layer, in one transaction.

        Args:
            layer: The layer's bytes; None: the store has them already.

        Raises:
            ImageExists: another image is complete under this ID.
            BlobDamaged: the catalog knows JSON or layer with another size.
        """
        json = image.document.json
        with self.state.staged(json) as (document,), self.state.catalog.begin() as tx:
            row = tx.repositories.ensure(repository, exclusive=True)
            recorded = image.row(row.id)
            if tx.v1_images.contradicts(row.id, [recorded]):
                raise ImageExists(id=recorded.id)
            self.state.admit(tx, row, document, BlobRow(recorded.json, len(json)))
            if layer:
                self.state.admit(tx, row, layer.upload, image.layer)
            else:
                self.state.share(tx, row, image.layer)
            self.record(tx, row, [recorded])

    def forget(self, repository: RepositoryName, image: ImageId) -> bool:
        """Forget an image unless a manifest is seen as it or another image builds on it.

        Return whether it went; its JSON and layer stay linked to the repository.
        """
        with self.state.catalog.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=True)
            if row is None or not tx.v1_images.remove(row.id, image):
                return False
            self.state.links.remove_v1_image(repository, image)
        return True

    def record(self, tx: Transaction, repository: RepositoryRow, images: Iterable[V1ImageRow]) -> None:
        """Record complete images within a transaction: rows first, then link files.

        A manifest whose V1 view was another image under one of their IDs has no V1 view from then on.
        """
        changed = [image for image in images if tx.v1_images.record(image)]
        tx.views.hide(repository.id, [image.id for image in changed])
        for image in changed:
            self._write_link(repository, image)

    def _find(self, repository: RepositoryName, image: ImageId) -> V1ImageRow:
        row = self.peek(repository, image)
        if row is None:
            raise ImageUnknown(id=image)
        return row

    def _is_tarsum_of(self, tarsum: str, row: V1ImageRow) -> bool:
        with self.state.store.open(cast("Digest", row.layer)) as layer:
            agrees = verify_tarsum(tarsum, self.json(row), read_chunks(layer))
        if not agrees:
            _log.warning("image %s: layer does not match its TarSum %s", row.id, tarsum)
        return agrees

    def _check_race(self, repository: RepositoryName, image: V1ImageRow) -> None:
        """Accept that another client has changed the image, if it completed the same one.

        Raises:
            UploadBusy: it started another image under this ID.
        """
        found = self._find(repository, image.id)
        if not found.complete or found.json != image.json:
            raise UploadBusy(id=image.id)

    def _write_link(self, repository: RepositoryRow, image: V1ImageRow) -> None:
        facts: dict[str, str | None] = {
            "parent": image.parent,
            "json": str(image.json),
            "layer": _text(image.layer),
            "diff_id": _text(image.diff_id),
            "checksum": _text(image.checksum),
            "tarsum": image.tarsum,
        }
        self.state.links.add_v1_image(repository.name, image.id, facts)


@dataclass(frozen=True, slots=True)
class Listings:
    """Lists the files in the layers of V1 images."""

    state: State

    def files(self, row: V1ImageRow) -> Iterator[File]:
        """Yield the files of the image's own layer.

        Raises:
            ImageInvalid: the layer is not a tar, or has too many files.
        """
        if row.layer is not None:
            with self.state.store.open(row.layer) as layer:
                yield from files(read_chunks(layer))

    def changes(self, rows: Sequence[V1ImageRow]) -> dict[str, dict[str, list[object]]]:
        """Return what the first image of an ancestry changes in the others, as ``listing.changes``.

        Raises:
            ImageInvalid: as ``files``.
        """
        return changes(self.files(rows[0]), map(self.files, rows[1:]))


def _check_parent(tx: Transaction, repository: RepositoryName, image: V1Image) -> None:
    """Refuse an image whose parent does not exist, or has the image itself as an ancestor."""
    if image.parent is None:
        return
    ancestry = tx.v1_images.ancestry(repository, image.parent)
    if not 0 < len(ancestry) < CHAIN_LIMIT or any(ancestor.id == image.id for ancestor in ancestry):
        raise ImageInvalid(reason="Image depends on a non existing parent")


def _verified(chunks: Iterable[bytes], diff_id: DiffIdHasher) -> Iterator[bytes]:
    """Yield a layer's *chunks*; raise at the end if its compressed stream is cut short."""
    yield from tee(chunks, diff_id.update)
    diff_id.digest()


def _require_complete(row: V1ImageRow | None, image: ImageId) -> V1ImageRow:
    if row is None:
        raise ImageUnknown(id=image)
    if not row.complete:
        raise ImageIncomplete(id=image)
    return row


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
