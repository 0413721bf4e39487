"""Manifests: what a repository's tags point at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, ManifestRow, Origin, RepositoryRow
from dualreg.errors import ImageUnknown, ManifestInUse, ManifestUnknown, RepositoryUnknown
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import Manifest, parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry.children import Children, documents, sort_children
from dualreg.registry.conditions import UNCONDITIONAL, Condition, bring_compared, check
from dualreg.registry.payloads import Payloads
from dualreg.registry.pushed import parse_pushed
from dualreg.registry.state import State
from dualreg.registry.visibility import Visibility


@dataclass(frozen=True, slots=True)
class Manifests:
    """The rules of manifests.

    Attributes:
        sparse_indexes: Whether an index may name manifests that the repository does not hold.
        visibility: Which tags of V1 clients are found.
    """

    state: State
    payloads: Payloads
    sparse_indexes: bool = False
    visibility: Visibility = field(default_factory=Visibility)

    def find(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow:
        """Return the manifest that V2 clients know by *reference*; tags that V1 clients set may be hidden.

        Raises:
            RepositoryUnknown, ManifestUnknown.
        """
        with self.state.catalog.read() as tx:
            row = tx.manifests.find(repository, reference)
            known = row is not None or tx.repositories.find(repository) is not None
        legacy, shown = self.state.legacy, self.visibility.shown(repository, Origin.V2)
        if row is None and legacy.origin in shown and legacy.bring(repository, reference):
            return self.find(repository, reference)
        if not known:
            raise RepositoryUnknown(name=repository)
        hidden = row and row.origin and row.origin not in shown
        if row is None or hidden:
            raise ManifestUnknown(reference=str(reference))
        return row

    def image_of(self, repository: RepositoryName, row: ManifestRow) -> ManifestRow | None:
        """Return the image that clients without indexes see.

        It is the manifest itself, or its linux/amd64 child.
        """
        if row.media_type not in media_types.INDEXES:
            return row
        entries = parse(row.media_type, self.payload(row)).described(Role.MANIFEST)
        chosen = next((entry for entry in entries if _is_linux_amd64(entry)), None)
        if chosen is None:
            return None
        with self.state.catalog.read() as tx:
            return tx.manifests.find(repository, chosen.digest)

    def payload(self, row: ManifestRow) -> bytes:
        """Return the bytes that the digest is of: those pushed, without the signatures of schema 1."""
        return self.payloads.read(row.digest)

    def signed(self, row: ManifestRow) -> BlobRow | None:
        """Return the schema 1 manifest with its signatures, as it was pushed."""
        with self.state.catalog.read() as tx:
            return tx.manifests.signed(row.repository_id, row.digest)

    def put(
        self,
        repository: RepositoryName,
        reference: Tag | Digest,
        media_type: str,
        payload: bytes,
        *,
        tags: Sequence[Tag] = (),
        condition: Condition = UNCONDITIONAL,
        v1_view: ImageId | None = None,
    ) -> Manifest:
        """Store a manifest, and point *tags* at it, and *reference* if that is a tag: all of it or nothing.

        Args:
            media_type: As the client declared it; empty: as the document says.
            condition: What must hold of *reference*.
            v1_view: The V1 image that this manifest was made from, which V1 clients shall go on seeing.

        Raises:
            ManifestInvalid, DigestMismatch, SizeMismatch, ReferencesMissing, PreconditionFailed,
                ImageUnknown (*v1_view* is gone), and for schema 1 that was signed for another place
                NameInvalid, TagInvalid: nothing was changed.

        Source: OCI distribution-spec v1.1, "Pushing Manifests".
        """
        manifest = parse_pushed(repository, reference, media_type, payload)
        bring_compared(self.state.legacy, condition, repository, reference)
        staged = documents(manifest)
        with self.state.staged(*staged.values()) as uploads, self.state.catalog.begin() as tx:
            row = tx.repositories.ensure(repository, exclusive=condition.given or self._is_sparse(manifest))
            check(tx, condition, repository, reference, manifest.digest)
            if v1_view and tx.v1_images.find(repository, v1_view) is None:
                raise ImageUnknown(id=v1_view)  # it was derived from another manifest, and went with it
            children = sort_children(tx, row.id, manifest, sparse=self.sparse_indexes)
            for upload, (digest, document) in zip(uploads, staged.items(), strict=True):
                self.state.admit(tx, row, upload, BlobRow(digest, len(document)))
            self._record(tx, row, manifest, children, v1_view)
            named = [reference] if isinstance(reference, Tag) else []
            self.point(tx, row, [*named, *tags], manifest.digest, Origin.V1 if v1_view else Origin.V2)
        return manifest

    def retag(
        self,
        repository: RepositoryName,
        tag: Tag,
        digest: Digest,
        origin: Origin,
        *,
        condition: Condition = UNCONDITIONAL,
        at: datetime | None = None,
    ) -> None:
        """Point a tag at a manifest that is here already.

        Args:
            condition: What must hold of the tag.
            at: When it was pushed; None: now.

        Raises:
            ManifestUnknown, PreconditionFailed: nothing was changed.
        """
        with self.state.catalog.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=condition.given)
            if row is None or not tx.manifests.lock(row.id, digest):
                raise ManifestUnknown(reference=str(digest))
            check(tx, condition, repository, tag, digest)
            self.point(tx, row, [tag], digest, origin, at=at)

    def point(
        self,
        tx: Transaction,
        repository: RepositoryRow,
        tags: Sequence[Tag],
        digest: Digest,
        origin: Origin,
        *,
        at: datetime | None = None,
    ) -> None:
        """Point *tags* at a manifest that the repository holds; rows first, then the link files."""
        tx.tags.point(repository.id, tags, digest, origin, at)
        for tag in tags:
            self.state.links.point_tag(repository.name, tag, digest)

    def delete(
        self,
        repository: RepositoryName,
        digest: Digest,
        condition: Condition = UNCONDITIONAL,
        *,
        tagged: bool = True,
    ) -> None:
        """Forget the manifest, every tag that points at it, and what was only made for V1 clients to see it.

        Args:
            tagged: Whether it may have tags.

        Raises:
            RepositoryUnknown, ManifestUnknown.
            ManifestInUse: an index of the repository names it, or a tag points at it that may not.
            PreconditionFailed.
        """
        legacy = self.state.legacy
        bring_compared(legacy, condition, repository, digest)
        offered = legacy.offers(repository, digest)
        with self.state.catalog.begin() as tx:
            # Nobody may begin to build on the V1 images that go along.
            row = tx.repositories.lock(repository, exclusive=True)
            if row is None and not offered:
                raise RepositoryUnknown(name=repository)
            check(tx, condition, repository, digest)
            if row and tx.manifests.lock(row.id, digest):
                self._remove(tx, row, digest, tagged=tagged)
            elif not offered:
                raise ManifestUnknown(reference=str(digest))
            legacy.forget(tx, repository, [digest])
            self.state.links.remove_manifest(repository, digest)

    def _remove(self, tx: Transaction, repository: RepositoryRow, digest: Digest, *, tagged: bool) -> None:
        tags, view = tx.tags.pointing_at(repository.id, digest), tx.views.find(repository.id, digest)
        if users := [*tx.manifests.parents(repository.id, digest), *(() if tagged else tags)]:
            raise ManifestInUse(digest=str(digest), referrers=[str(user) for user in users])
        self.state.legacy.forget(tx, repository.name, [*tags, *([view] if view else [])])
        tx.manifests.remove(repository.id, digest)
        images = tx.v1_images.prune(repository, ImageId(view)) if view else ()
        unlinked = tx.blobs.unlink(repository.id, digest, *(image.json for image in images))
        for blob in unlinked:
            self.state.links.remove_blob(repository.name, blob)
        for image in images:
            self.state.links.remove_v1_image(repository.name, image.id)
        for tag in tags:
            self.state.links.remove_tag(repository.name, tag)

    def _is_sparse(self, manifest: Manifest) -> bool:
        """Tell whether it may name manifests that come later, even at this moment."""
        return self.sparse_indexes and any(child.role == Role.MANIFEST for child in manifest.children)

    def _record(
        self,
        tx: Transaction,
        repository: RepositoryRow,
        manifest: Manifest,
        children: Children,
        v1_view: ImageId | None,
    ) -> None:
        if tx.manifests.record(repository.id, manifest):
            tx.manifests.adopt(repository.id, manifest.digest)
        tx.manifests.record_children(repository.id, manifest.digest, children.held)
        tx.manifests.record_missing(repository.id, manifest.digest, children.missing)
        self.state.links.add_manifest(repository.name, manifest.digest)
        if manifest.signed:
            signed = Digest.of(manifest.signed)
            tx.manifests.record_signed(repository.id, manifest.digest, signed)
            self.state.links.add_signed(repository.name, manifest.digest, signed)
        if v1_view:
            tx.views.record(repository.id, manifest.digest, v1_view)


def _is_linux_amd64(descriptor: Descriptor) -> bool:
    platform = descriptor.platform
    return platform.get("os") == "linux" and platform.get("architecture") == "amd64"
