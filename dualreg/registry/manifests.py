"""Manifests: the documents that tags point at, and what they name (their children).

A manifest is parsed, its children are looked up in the repository, and its rows, links and tags are written
together. ``Manifests`` has the operations; the functions after it are their steps.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, ManifestRow, Origin, RepositoryRow
from dualreg.errors import (
    DigestMismatch,
    ManifestUnknown,
    SizeMismatch,
)
from dualreg.image import media_types
from dualreg.image.digest import CANONICAL, Digest
from dualreg.image.formats import Role
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.manifest import Manifest, parse, stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64
from dualreg.registry.children import UPSTREAM_RULES, Children, ManifestRules, resolve_children
from dualreg.registry.deletion import delete_manifest
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.integrity import Integrity
from dualreg.registry.loaded import claim
from dualreg.registry.pointing import Pointing
from dualreg.registry.preconditions import (
    UNCONDITIONAL,
    Precondition,
    check_precondition,
    load_for_precondition,
)
from dualreg.registry.provenance import PUSHED_NOW, Provenance
from dualreg.registry.signatures import Signatures
from dualreg.registry.state import Arriving, State
from dualreg.registry.visibility import Visibility
from dualreg.storage.links import staged_manifest

#: Indexes of which each process remembers the entry that clients get who cannot read indexes.
_CHOSEN = 10_000


class Pushed(NamedTuple):
    """A manifest that was stored.

    Attributes:
        mismatches: Sizes that it states wrongly, or not at all; clients may fail on them.
        warnings: What else the client is warned of.
    """

    manifest: Manifest
    mismatches: tuple[SizeMismatch, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifests:
    """Stores, finds and deletes manifests, and points tags at them.

    Attributes:
        signatures: Which manifests tags may point at.
        rules: Which manifests are taken.
        visibility: Which tags V2 clients see.
    """

    state: State
    documents: DocumentCache
    integrity: Integrity
    signatures: Signatures
    rules: ManifestRules = field(default_factory=ManifestRules)
    visibility: Visibility = field(default_factory=Visibility)
    _chosen: LRUCache[Digest, Digest | None] = field(default_factory=lambda: LRUCache(_CHOSEN))
    _lock: Lock = field(default_factory=Lock)

    def find(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow:
        """Return the manifest that V2 clients see as *reference*, importing it from upstream if need be.

        Raises:
            ManifestUnknown: whether the repository exists or not. Docker 1.8 and 1.9 look for the image on V1
                only after this error.

        Source: the reference registry, ``handlers/manifests.go``.
        """
        row, upstream = self._promised(repository, reference), self.state.upstream
        shown = self.visibility.shown(repository, Origin.V2)
        if upstream.is_due(repository, reference, row) and upstream.origin_of(repository) in shown:
            upstream.load(repository, reference)
            row = self._promised(repository, reference)
        hidden = row and row.origin and row.origin not in shown
        if row is None or hidden:
            raise ManifestUnknown(reference=str(reference))
        return row

    def _promised(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow | None:
        """Return the manifest in this registry, which stays for half the grace at least; None: none."""
        row = self.peek(repository, reference)
        if row is None or self._is_kept or self.state.is_promised(row.noted_at):
            return row
        return row if self.state.renew(repository, row.digest) else None  # collected meanwhile

    def unchanged_until(self, row: ManifestRow) -> datetime | None:
        """Return when ``find``, which returned *row*, has to be called again even if no row has changed.

        None: never.
        """
        return None if self._is_kept else self.state.promised_until(row.noted_at)

    @property
    def _is_kept(self) -> bool:
        """Whether the garbage collection leaves manifests that nothing leads to."""
        return self.state.retention.untagged is None

    def peek(self, repository: RepositoryName, reference: Tag | Digest) -> ManifestRow | None:
        """Return the manifest in this registry, whatever `bridge` shows, without asking upstream."""
        with self.state.catalog.read() as tx:
            return tx.manifests.find(repository, reference)

    def peek_all(self, repository: RepositoryName, digests: Collection[Digest]) -> list[ManifestRow]:
        """Return the manifests among *digests* that the repository holds, in the order given, as ``peek``."""
        with self.state.catalog.read() as tx:
            found = tx.manifests.find_all(repository, digests)
        return [found[digest] for digest in digests if digest in found]

    def awaits_any(self, repository: RepositoryName) -> bool:
        """Return whether an index of the repository names what is not in it."""
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            return row is not None and tx.manifests.awaits_any(row.id)

    def reachable_blobs(self, repository: RepositoryName, digest: Digest) -> tuple[BlobRow, ...]:
        """Return a manifest and all that it names in the repository, directly or not, as blobs."""
        with self.state.catalog.read() as tx:
            return tx.manifests.graph(repository, digest)

    def image_of(self, repository: RepositoryName, row: ManifestRow) -> ManifestRow | None:
        """Return the manifest itself or, of an index, its linux/amd64 child; None if that is not available.

        This is for clients that cannot read indexes.
        """
        if row.media_type not in media_types.INDEXES:
            return row
        chosen = self.linux_amd64(row)
        if chosen is None:
            return None
        child = self.peek(repository, chosen)
        if child is None and self.state.upstream.covers(repository):
            self.state.upstream.load(repository, chosen)
            child = self.peek(repository, chosen)
        return child

    def linux_amd64(self, index: ManifestRow) -> Digest | None:
        """Return the first such entry of an index; remembered, since there may be thousands of others."""
        with self._lock:
            if index.digest in self._chosen:
                return self._chosen[index.digest]
        children = stored_contents(index.media_type, self.payload(index)).children
        entries = (child.descriptor for child in children if child.role is Role.MANIFEST)
        chosen = next((entry.digest for entry in entries if LINUX_AMD64.fits(entry.platform)), None)
        with self._lock:
            self._chosen[index.digest] = chosen
        return chosen

    def load(self, row: ManifestRow) -> Manifest:
        """Return the manifest; its descriptors have the sizes that the content has, whatever it states."""
        payload = self.payload(row)
        contents = stored_contents(row.media_type, payload)
        manifest = Manifest(row.media_type, payload, row.digest, contents)
        named = {child.descriptor.digest for child in manifest.children}
        with self.state.catalog.read() as tx:
            return manifest.resized(tx.blobs.sizes(named))

    def payload(self, row: ManifestRow) -> bytes:
        """Return the bytes that the digest is of: as pushed, without the signatures of schema 1."""
        return self.documents.read(row.digest)

    def signed(self, row: ManifestRow) -> BlobRow | None:
        """Return the blob of a schema 1 manifest with its signatures, as pushed; None of other manifests."""
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
        condition: Precondition = UNCONDITIONAL,
        provenance: Provenance = PUSHED_NOW,
    ) -> Pushed:
        """Store a manifest and point *tags*, and *reference* if it is a tag, at it: all of it or nothing.

        Args:
            media_type: As declared by the client; empty: as the document says.
            condition: What must hold of *reference*.
            provenance: Where the manifest comes from, if not from the client that pushes it now.

        Raises:
            ManifestInvalid, DigestMismatch, ReferencesMissing, PreconditionFailed, TagImmutable, Unsigned.
            QuotaExceeded; SizeMismatch if strict; ImageUnknown, ManifestUnknown: what it was made of is gone.
            ImageExists: V1 clients see it as another image that was pushed. RepositoryOwned.
        """
        manifest = _parse_pushed(reference, media_type, payload)
        ruling = self.signatures.check_push(repository, (*tags, reference), manifest, provenance)
        load_for_precondition(self.state.upstream, condition, repository, reference)
        at, origin = provenance.pushed_at or self.state.catalog.now(), provenance.origin
        rules = self._rules_of(repository, provenance)  # which may take a connection to the database
        pointed = Pointing.at_tags(self.state, repository, [*tags, reference], manifest.digest)
        arrival = self._arriving(repository, manifest, pointed, at, counts=provenance.counts)
        with arrival as arriving, self.state.begin() as tx:
            row = self._ensure(tx, repository, manifest, condition, provenance)
            left = pointed.leave(tx, row)
            check_precondition(tx, condition, repository, reference, manifest.digest)
            provenance.check(tx, row, manifest.digest)
            children = resolve_children(tx, row.id, manifest, rules, self.integrity.present)
            warned = arriving.record(tx, row, left)
            self._record(tx, row, manifest, children, provenance, at=at)
            pointed.record(tx, row, origin, files=arriving.files, checked=provenance.upstream is not None)
        return Pushed(manifest, children.mismatches, (*ruling.warnings, *warned))

    def _rules_of(self, repository: RepositoryName, provenance: Provenance) -> ManifestRules:
        """Return the rules for a manifest: one that was loaded, or derived of such, may lack its children.

        So may one that is restored, if it lacked them before.
        Sizes that are wrong in what was pushed are wrong in what is made of it, and in what is restored.
        """
        if provenance.upstream or provenance.lacking or self.state.upstream.covers(repository):
            return UPSTREAM_RULES
        if provenance.restored:
            return ManifestRules()
        return replace(self.rules, strict=False) if provenance.made_of else self.rules

    @contextmanager
    def _arriving(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        pointed: Pointing,
        at: datetime,
        *,
        counts: bool,
    ) -> Iterator[Arriving]:
        """Stage for the block the manifest, what is stored along with it, and the link files of both."""
        links = [staged_manifest(repository, manifest.digest, at), *pointed.files]
        documents = _documents_to_store(manifest)
        blobs = [BlobRow(digest, len(document)) for digest, document in documents.items()]
        with (
            self.state.staged(*documents.values()) as uploads,
            self.state.arriving(
                repository, *zip(uploads, blobs, strict=True), also=links, counts=counts
            ) as arriving,
        ):
            yield arriving

    def retag(
        self,
        repository: RepositoryName,
        tag: Tag,
        digest: Digest,
        origin: Origin,
        *,
        condition: Precondition = UNCONDITIONAL,
        at: datetime | None = None,
        agent: str = "",
    ) -> None:
        """Point a tag at a manifest that the repository holds.

        Args:
            condition: What must hold of the tag.
            at: When the tag was pushed; None: now.
            agent: The ``User-Agent`` of the client that pushed it, if it is to be recorded.

        Raises:
            ManifestUnknown, PreconditionFailed, TagImmutable, Unsigned: nothing was changed.
        """
        self.signatures.check_retag(repository, digest)
        pointed = Pointing.at_tags(self.state, repository, [tag], digest, at)
        with self.state.links.staged(pointed.files), self.state.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=condition.is_conditional)
            left = pointed.leave(tx, row) if row else ()
            if row is None or not tx.manifests.lock(row.id, digest):
                raise ManifestUnknown(reference=str(digest))
            check_precondition(tx, condition, repository, tag, digest)
            tx.garbage.note(row.id, *left)
            pointed.record(tx, row, origin, agent)

    def delete(
        self,
        repository: RepositoryName,
        digest: Digest,
        condition: Precondition = UNCONDITIONAL,
        *,
        tagged: bool = True,
        restorable: bool = True,
    ) -> None:
        """Delete the manifest, the tags that point at it, and V1 images that were derived from it alone.

        Args:
            tagged: Whether it may have tags, which are then deleted. If it has none and is an edition, the
                image that it was made of is deleted in the same way.
            restorable: Whether it can be restored for a while.

        Raises:
            RepositoryUnknown, ManifestUnknown, PreconditionFailed.
            ManifestInUse: an index of the repository names it, or it has tags and must not.
            TagImmutable: one of the tags may not be deleted.
        """
        load_for_precondition(self.state.upstream, condition, repository, digest)
        delete_manifest(self.state, repository, digest, condition, tagged=tagged, restorable=restorable)

    def _ensure(
        self,
        tx: Transaction,
        repository: RepositoryName,
        manifest: Manifest,
        condition: Precondition,
        provenance: Provenance,
    ) -> RepositoryRow:
        """Return the repository, created if need be, and locked against what must not run meanwhile.

        That is every other change for a condition, and for a manifest whose missing children may arrive at
        this moment.
        """
        exclusive = (
            condition.is_conditional
            or provenance.upstream is not None
            or (self.rules.sparse_indexes and any(child.role == Role.MANIFEST for child in manifest.children))
        )
        row = tx.repositories.ensure(repository, exclusive=exclusive)
        if provenance.upstream:
            claim(self.state, tx, row, provenance.upstream)
        return row

    def _record(
        self,
        tx: Transaction,
        repository: RepositoryRow,
        manifest: Manifest,
        children: Children,
        provenance: Provenance,
        *,
        at: datetime,
    ) -> None:
        links = self.state.links
        if is_new := tx.manifests.record(repository.id, manifest, at):
            tx.manifests.resolve_missing(repository.id, manifest.digest)
        if is_new or tx.manifests.redescribe(repository.id, manifest):
            media_type = None if manifest.self_described else manifest.media_type
            links.describe_manifest(repository.name, manifest.digest, media_type)
        tx.manifests.record_children(repository.id, manifest, children.held)
        tx.manifests.record_missing(repository.id, manifest, children.missing)
        if manifest.signed:
            signed = Digest.of(manifest.signed)
            tx.manifests.record_signed(repository.id, manifest.digest, signed)
            links.add_signed(repository.name, manifest.digest, signed)
        if provenance.v1_view:
            self.state.record_view(tx, repository, manifest.digest, provenance.v1_view)
        if made_of := provenance.made_of:
            self.state.record_view(tx, repository, made_of.manifest, str(manifest.digest), made_of.kind)


def _parse_pushed(reference: Tag | Digest, media_type: str, payload: bytes) -> Manifest:
    """Parse a manifest, hashing it by the algorithm of the digest that it is pushed under.

    Schema 1 may have been signed for another repository or tag: programs that copy images push it unchanged.

    Raises:
        ManifestInvalid, DigestMismatch.
    """
    algorithm = reference.algorithm if isinstance(reference, Digest) else CANONICAL
    manifest = parse(media_type, payload, algorithm=algorithm)
    if isinstance(reference, Digest) and manifest.digest != reference:
        raise DigestMismatch(digest=str(reference), actual=str(manifest.digest))
    return manifest


def _documents_to_store(manifest: Manifest) -> dict[Digest, bytes]:
    """Return the manifest by its digest, with the blobs that are stored along with it.

    These are its signed form, and the empty layer, which manifests may name although no client pushed it.
    """
    documents = {manifest.digest: manifest.payload}
    if manifest.signed:
        documents[Digest.of(manifest.signed)] = manifest.signed
    empty = empty_layer().digest
    if any(child.descriptor.digest == empty for child in manifest.children):
        documents[empty] = EMPTY_LAYER
    return documents
