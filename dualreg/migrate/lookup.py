"""Lookup: what an export reads of this registry, looked up for many tags by few statements."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from dualreg.catalog.rows import BlobRow, ManifestRow
from dualreg.errors import BlobMissing, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.own_documents import Document, is_blob_only, load_document
from dualreg.registry import Registry
from dualreg.registry.v1_seen import SeenImage

#: Bytes of manifests that are remembered at a time, for all repositories of a step.
REMEMBERED = 16 << 20


@dataclass
class Lookup:
    """Rows and documents of a repository; what was not looked up ahead is looked up when it is needed.

    Attributes:
        left: Bytes of manifests that it may yet remember.
    """

    registry: Registry
    repository: RepositoryName
    left: int = REMEMBERED
    _tags: dict[Tag, ManifestRow] = field(default_factory=dict)
    _rows: dict[Digest, ManifestRow] = field(default_factory=dict)
    _absent: set[Digest] = field(default_factory=set)
    _referrers: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    _documents: dict[Digest, Document] = field(default_factory=dict)
    _blobs: dict[Digest, BlobRow] = field(default_factory=dict)

    def look_ahead(self, tags: Collection[Tag]) -> None:
        """Look up what an export of *tags* needs, by a few statements for each level of manifests."""
        self._tags = self.registry.tags.manifests(self.repository, tags)
        rows, blobs = {row.digest: row for row in self._tags.values()}, set[Digest]()
        while rows:
            self._rows |= rows
            named = set[Digest]()
            for row in rows.values():
                self._note_children(row, named, blobs)
            found = self.registry.referrers.among(self.repository, rows.keys())
            for subject, referrers in found.items():
                self._referrers[subject] = (*referrers,)
                named.update(referrers)
            named -= self._rows.keys()
            found_rows = self.registry.manifests.peek_all(self.repository, named) if named else []
            rows = {row.digest: row for row in found_rows}
            self._absent |= named - rows.keys()
        known = self.registry.blobs.known(self.repository, blobs) if blobs else {}
        self._blobs = {digest: blob for digest, (blob, is_linked) in known.items() if is_linked}

    def tagged(self, tag: Tag) -> ManifestRow | None:
        """Return the manifest of a tag, even if `bridge` hides it; None: there is no such tag."""
        return self._tags.get(tag) or self.registry.manifests.peek(self.repository, tag)

    def manifests(self, digests: Collection[Digest]) -> list[ManifestRow]:
        """Return the manifests among *digests* that the repository has, in their order."""
        unknown = [each for each in digests if each not in self._rows and each not in self._absent]
        rows = self._rows
        if unknown:
            found = self.registry.manifests.peek_all(self.repository, unknown)
            rows = rows | {row.digest: row for row in found}
        return [rows[digest] for digest in digests if digest in rows]

    def referrers(self, digest: Digest) -> Iterator[Digest]:
        """Yield the referrers of a manifest."""
        if (known := self._referrers.get(digest)) is not None:
            yield from known
        else:
            yield from (row.digest for row in self.registry.referrers.all(self.repository, digest))

    def document(self, row: ManifestRow) -> Document:
        """Return the manifest of a row.

        Raises:
            Broken: it is damaged.
            BlobMissing.
        """
        if found := self._documents.get(row.digest):
            return found
        document = load_document(self.registry, row)
        if len(document.payload) <= self.left:
            self.left -= len(document.payload)
            self._documents[row.digest] = document
        return document

    def is_blob_only(self, digest: Digest) -> bool:
        """Return whether the repository has what an index names as a blob, and not as a manifest."""
        return digest not in self._rows and is_blob_only(self.registry, self.repository, digest)

    def blob(self, digest: Digest) -> BlobRow:
        """Return a blob, as ``Blobs.stat``, which also fetches what an upstream has.

        Raises:
            RegistryError: it is not linked to the repository.
        """
        return self._blobs.get(digest) or self.registry.blobs.stat(self.repository, digest)

    def seen(self, tag: Tag) -> tuple[SeenImage, ...]:
        """Return the V1 image that V1 clients see a tag as, and its ancestors, the base last; or none."""
        registry, repository = self.registry, self.repository
        try:
            rows = registry.v1_images.ancestry(repository, registry.bridge.resolve(repository, tag))
        except RegistryError:
            return ()
        return tuple(map(SeenImage, rows))

    def _note_children(self, row: ManifestRow, manifests: set[Digest], blobs: set[Digest]) -> None:
        """Note what a manifest names; one that is damaged is reported with its tag."""
        with suppress(Broken, BlobMissing, OSError, ValueError):
            for child in self.document(row).contents.children:
                if child.role is Role.MANIFEST:
                    manifests.add(child.descriptor.digest)
                else:
                    blobs.add(child.descriptor.digest)
