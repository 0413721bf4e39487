"""Sending of a tag to a target: with its blobs and manifests, each after what it names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Event

from dualreg.catalog.rows import BlobRow, ManifestRow
from dualreg.errors import RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Child, Role
from dualreg.image.names import Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.graph import ManifestGraph
from dualreg.migrate.lookup import Lookup
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.single_flight import Done, KeyedLocks
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.stopping import Stopped
from dualreg.migrate.targets.base import Outgoing, Receiver, Target
from dualreg.registry.accept import Accept
from dualreg.storage.names import V1Name


@dataclass
class Sent:
    """What was sent before, for all threads.

    Attributes:
        done: Blobs and manifests that need not be sent again.
        locks: The locks of those that are being sent.
    """

    done: Done = field(default_factory=Done)
    locks: KeyedLocks = field(default_factory=KeyedLocks)


@dataclass(frozen=True)
class Sending:
    """Sends tags of a repository; what several of them share is sent once.

    Attributes:
        target: Where the tags go, which says what it takes.
        receiver: What they are written to: the target itself, or a step of it.
        before: What was sent before.
        own: What this sends.
        stop: Set from outside to stop early.
        convert_schema1: Convert schema 1 even if the target takes it.
        on_blob: Called with each blob that was sent.
    """

    lookup: Lookup
    target: Target
    receiver: Receiver
    before: Sent
    own: Done
    stop: Event
    convert_schema1: bool
    on_blob: Callable[[BlobRow], None]

    def send(self, entry: Entry) -> Outcome:
        """Send a tag; return what became of it.

        Raises:
            Stopped: the export ends early.
            Broken, RegistryError, BlobDamaged, BlobMissing, ValueError: it is incomplete, or has no place.
            RemoteError, OSError: reading or writing failed.
        """
        if self.stop.is_set():
            raise Stopped
        tag = Tag(entry.tag)
        stored = self._manifest_row(tag)
        top = self._readable(tag, stored)
        order = ManifestGraph(self.lookup, self.target.renames).in_order(top)
        # The tag comes last: after the referrers of its manifest, which come after the manifest itself.
        before = order[:-1] if order[-1].digest == top.digest else order
        parts = [self._untagged(row) for row in before]
        sent = sum(size for size, _ in parts) + self._blobs(top)
        changed = self._send(top, tag) or any(new for _, new in parts)
        status = Status.DONE if sent or changed else Status.SAME
        converted = "" if top.digest == stored.digest else str(stored.digest)
        return Outcome(entry, status, "", str(top.digest), sent, converted, self._note(top.media_type))

    def _note(self, media_type: str) -> str:
        """Return which registry cannot serve a manifest of that type from the target; empty: none."""
        if self.target.served is None or media_type in self.target.served:
            return ""
        kind = "schema 1" if media_type in media_types.SCHEMA1_TYPES else media_type
        return f"registry 3 does not serve {kind}"

    def _manifest_row(self, tag: Tag) -> ManifestRow:
        """Return the manifest of a tag, even if `bridge` hides it."""
        found = self.lookup.tagged(tag)
        # which raises the reason
        return found or self.lookup.registry.manifests.find(self.lookup.repository, tag)

    def _readable(self, tag: Tag, row: ManifestRow) -> ManifestRow:
        """Return the manifest to export: schema 1 is converted if the target does not take it, or as chosen.

        Raises:
            Broken: it cannot be.
        """
        if row.media_type not in media_types.SCHEMA1_TYPES:
            return row
        if self.target.takes_schema1 and not self.convert_schema1:
            return row
        registry, repository = self.lookup.registry, self.lookup.repository
        wanted = media_types.OCI_MANIFEST if self.target.renames else media_types.DOCKER_MANIFEST
        newer = registry.negotiation.find(repository, tag, Accept(frozenset({wanted})))
        if newer.media_type in media_types.SCHEMA1_TYPES:
            raise Broken(FindingKind.NO_PLACE, f"{repository}:{tag}", "schema 1 that cannot be converted")
        return registry.manifests.find(repository, newer.digest)

    def _untagged(self, row: ManifestRow) -> tuple[int, bool]:
        """Export a manifest without a tag, once; return how many bytes were sent, and whether it was new."""
        if self._is_done(row.digest):
            return 0, False
        sent = self._blobs(row)
        with self.before.locks.lock((self.lookup.repository, row.digest)):
            new = not self._is_done(row.digest) and self._send(row)
            self._note_done(row.digest)
        return sent, new

    def _blobs(self, row: ManifestRow) -> int:
        """Export the blobs that a manifest names; return how many bytes were sent."""
        named = [
            child.descriptor for child in self.lookup.document(row).contents.children if self._is_blob(child)
        ]
        return sum(self._blob(each.digest, each.media_type) for each in named)

    def _is_blob(self, child: Child) -> bool:
        """Return whether a child is exported as a blob; entries of indexes are, if they are no manifests."""
        if child.role is Role.MANIFEST:
            return self.lookup.is_blob_only(child.descriptor.digest)
        return child.role in (Role.CONFIG, Role.LAYER)

    def _send(self, row: ManifestRow, *tags: Tag) -> bool:
        found, repository = self.lookup.document(row), self.lookup.repository
        is_schema1 = row.media_type in media_types.SCHEMA1_TYPES
        outgoing = Outgoing(
            repository,
            row.media_type,
            found.payload,
            row.digest,
            found.contents.subject,
            self.lookup.registry.negotiation.signed(repository, row) if is_schema1 else None,
            tuple(self._v1_images(row)) if self.target.takes_v1 else (),
            self.lookup.seen(tags[0]) if self.target.shows_v1 and tags else (),
        )
        return self.receiver.manifest(outgoing, tags)

    def _v1_images(self, row: ManifestRow) -> Iterator[tuple[V1Name, bytes]]:
        """Export the layers of the V1 images that a manifest was made of; yield the images, base first."""
        registry = self.lookup.registry
        for each in registry.bridge.pushed_images(self.lookup.repository, row):
            if each.layer:  # which may be another form of that in the manifest
                self._blob(each.layer, media_types.OCTET_STREAM)
                facts = each.parent, each.diff_id, each.checksum, each.tarsum, each.tarsum_verified
                name = V1Name(each.id, each.json, each.layer, *facts)
                yield name, registry.v1_images.json(each)

    def _blob(self, digest: Digest, media_type: str) -> int:
        if self.stop.is_set():
            raise Stopped
        with self.before.locks.lock(digest):
            if self._is_done(digest):
                return 0
            try:
                size = self.lookup.blob(digest).size
            except RegistryError:
                if media_types.is_distributable(media_type):
                    raise
                return 0  # clients fetch it from its vendor
            sent = self.receiver.blob(self.lookup.repository, digest, self._bytes(digest, size))
            self._note_done(digest)
            if sent:
                self.on_blob(BlobRow(digest, size))
            return sent

    def _bytes(self, digest: Digest, size: int) -> SourceBytes:
        blobs = self.lookup.registry.blobs
        return SourceBytes(size, partial(blobs.open, digest), blobs.path(digest))

    def _is_done(self, digest: Digest) -> bool:
        repository = self.lookup.repository
        return self.own.has(repository, digest) or self.before.done.has(repository, digest)

    def _note_done(self, digest: Digest) -> None:
        self.own.add(self.lookup.repository, digest)
