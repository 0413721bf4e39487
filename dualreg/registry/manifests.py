"""Manifests: what a repository's tags point at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, ManifestRow, Origin, RepositoryRow
from dualreg.errors import (
    DigestMismatch,
    ManifestInUse,
    ManifestUnknown,
    NameInvalid,
    ReferencesMissing,
    RepositoryUnknown,
    SizeMismatch,
    TagInvalid,
)
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import CANONICAL, Digest
from dualreg.image.formats import Child, Role
from dualreg.image.layer import EMPTY_LAYER, EMPTY_LAYER_DIGEST
from dualreg.image.manifest import Manifest, parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry.conditions import UNCONDITIONAL, Condition
from dualreg.registry.payloads import Payloads
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
            if row is None and tx.repositories.find(repository) is None:
                raise RepositoryUnknown(name=repository)
        hidden = row and row.origin and row.origin not in self.visibility.shown(repository, Origin.V2)
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
            ManifestInvalid, DigestMismatch, SizeMismatch, ReferencesMissing, PreconditionFailed, and for
                schema 1 that was signed for another place NameInvalid, TagInvalid: nothing was changed.

        Source: OCI distribution-spec v1.1, "Pushing Manifests".
        """
        manifest = _parse(reference, media_type, payload)
        _check_place(manifest, repository, reference)
        documents = _documents(manifest)
        with self.state.staged(*documents.values()) as uploads, self.state.catalog.begin() as tx:
            row = tx.repositories.ensure(repository, exclusive=condition.given)
            _check(tx, condition, repository, reference)
            children = _held_children(tx, row.id, manifest, sparse=self.sparse_indexes)
            for upload, (digest, document) in zip(uploads, documents.items(), strict=True):
                self.state.admit(tx, row, upload, BlobRow(digest, len(document)))
            self._record(tx, row, manifest, children)
            if v1_view:
                tx.views.record(row.id, manifest.digest, v1_view)
            named = [reference] if isinstance(reference, Tag) else []
            self.point(tx, row, [*named, *tags], manifest.digest, Origin.V1 if v1_view else Origin.V2)
        return manifest

    def point(
        self, tx: Transaction, repository: RepositoryRow, tags: Sequence[Tag], digest: Digest, origin: Origin
    ) -> None:
        """Point *tags* at a manifest that the repository holds; rows first, then the link files."""
        tx.tags.point(repository.id, tags, digest, origin)
        for tag in tags:
            self.state.links.point_tag(repository.name, tag, digest)

    def delete(
        self, repository: RepositoryName, digest: Digest, condition: Condition = UNCONDITIONAL
    ) -> None:
        """Forget the manifest and every tag that points at it.

        Raises:
            RepositoryUnknown, ManifestUnknown.
            ManifestInUse: an index of the repository names it.
            PreconditionFailed.
        """
        with self.state.catalog.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=condition.given)
            if row is None:
                raise RepositoryUnknown(name=repository)
            _check(tx, condition, repository, digest)
            if not tx.manifests.lock(row.id, digest):
                raise ManifestUnknown(reference=str(digest))
            if parents := tx.manifests.parents(row.id, digest):
                raise ManifestInUse(digest=str(digest), referrers=[str(parent) for parent in parents])
            tags = tx.tags.pointing_at(row.id, digest)
            tx.manifests.remove(row.id, digest)
            if tx.blobs.unlink(row.id, digest):
                self.state.links.remove_blob(repository, digest)
            for tag in tags:
                self.state.links.remove_tag(repository, tag)
            self.state.links.remove_manifest(repository, digest)

    def _record(
        self, tx: Transaction, repository: RepositoryRow, manifest: Manifest, children: Iterable[Child]
    ) -> None:
        tx.manifests.record(repository.id, manifest)
        tx.manifests.record_children(repository.id, manifest.digest, children)
        self.state.links.add_manifest(repository.name, manifest.digest)
        if manifest.signed:
            signed = Digest.of(manifest.signed)
            tx.manifests.record_signed(repository.id, manifest.digest, signed)
            self.state.links.add_signed(repository.name, manifest.digest, signed)


def _parse(reference: Tag | Digest, media_type: str, payload: bytes) -> Manifest:
    """Read the manifest, by the algorithm of the digest that it is pushed under."""
    algorithm = reference.algorithm if isinstance(reference, Digest) else CANONICAL
    manifest = parse(media_type, payload, algorithm=algorithm)
    if isinstance(reference, Digest) and manifest.digest != reference:
        raise DigestMismatch(digest=str(reference))
    return manifest


def _check_place(manifest: Manifest, repository: RepositoryName, reference: Tag | Digest) -> None:
    """Refuse schema 1 that says it belongs elsewhere; under its digest, any tag will do.

    Source: distribution 2.0 to 2.2, ``handlers/images.go``.
    """
    if manifest.contents.place is None:
        return
    name, tag = manifest.contents.place
    if name != repository:
        raise NameInvalid(name=name[:255])
    if isinstance(reference, Tag) and tag != reference:
        raise TagInvalid(tag=tag[:255])


def _documents(manifest: Manifest) -> dict[Digest, bytes]:
    """Return the manifest and what comes in with it.

    That is its signed form, and the empty layer, which every repository has without anybody pushing it.
    """
    documents = {manifest.digest: manifest.payload}
    if manifest.signed:
        documents[Digest.of(manifest.signed)] = manifest.signed
    for child in manifest.children:
        if str(child.descriptor.digest) == EMPTY_LAYER_DIGEST:
            documents[child.descriptor.digest] = EMPTY_LAYER
    return documents


def _check(
    tx: Transaction, condition: Condition, repository: RepositoryName, reference: Tag | Digest
) -> None:
    """Hold *condition* against what *reference* is now; the repository must be locked."""
    if condition.given:
        row = tx.manifests.find(repository, reference)
        condition.check(None if row is None else row.digest)


def _held_children(
    tx: Transaction, repository_id: int, manifest: Manifest, *, sparse: bool
) -> tuple[Child, ...]:
    """Return the children that the repository holds; all that it must hold are among them.

    With *sparse*, an index need not have all its manifests here.

    Raises:
        ReferencesMissing: a blob is not linked here, or the child of an index is not a manifest here.
        SizeMismatch: a descriptor promises another size than the blob has.
    """
    named = {child.descriptor.digest for child in manifest.children}
    sizes = tx.blobs.linked(repository_id, named) if named else {}
    sizes |= {digest: len(EMPTY_LAYER) for digest in named if str(digest) == EMPTY_LAYER_DIGEST}
    entries = {child.digest for child in manifest.described(Role.MANIFEST)}
    held = (sizes.keys() - entries) | (tx.manifests.held(repository_id, entries) if entries else frozenset())
    required = (child.descriptor.digest for child in manifest.required)
    excused = held | entries if sparse else held
    missing = [str(digest) for digest in dict.fromkeys(required) if digest not in excused]
    if missing:
        raise ReferencesMissing(digests=missing)
    for child in manifest.children:
        stated, stored = child.descriptor.size, sizes.get(child.descriptor.digest)
        if None not in (stated, stored) and stated != stored:
            raise SizeMismatch(digest=str(child.descriptor.digest), stored=stored, stated=stated)
    return tuple(child for child in manifest.children if child.descriptor.digest in held)


def _is_linux_amd64(descriptor: Descriptor) -> bool:
    platform = descriptor.platform
    return platform.get("os") == "linux" and platform.get("architecture") == "amd64"
