"""Linking: writes link files that are missing, from the rows, so that a rebuild of the catalog finds them.

After a restore, all are. Former versions wrote none for views, origins and media types, and dated links by
the clock of the file system.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dualreg.catalog.linking import LinkedManifest
from dualreg.catalog.notes import Note
from dualreg.errors import BlobDamaged, BlobMissing, ManifestInvalid
from dualreg.image.digest import Digest
from dualreg.image.manifest import stored
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry.pointing import unusual
from dualreg.registry.state import State
from dualreg.registry.v1_images import V1Images
from dualreg.registry.v1_repairs import write_v1_link
from dualreg.storage.links import (
    blob_link,
    manifest_link,
    origin_file,
    signed_link,
    tag_link,
    type_file,
    upstream_file,
    v1_file,
    view_file,
)

#: How far the time of a link may be from that of its row.
_TOLERANCE = timedelta(seconds=5)
#: What the note says once all link files are complete.
COMPLETE = "1"


@dataclass(frozen=True, slots=True)
class Linking:
    """Completes the link files of all repositories, while they are served."""

    state: State
    v1_images: V1Images

    def is_due(self) -> bool:
        """Return whether link files lack what this version writes; note that those of an empty one do not."""
        with self.state.catalog.read() as tx:
            if tx.notes.read(Note.LINKS) == COMPLETE:
                return False
        due = self.is_incomplete()
        if not due:
            self._note()
        return due

    def is_incomplete(self) -> bool:
        """Return whether link files lack what this version writes; note nothing."""
        with self.state.catalog.read() as tx:
            return tx.notes.read(Note.LINKS) != COMPLETE and tx.repositories.any()

    def count(self) -> int:
        """Return the number of repositories."""
        with self.state.catalog.read() as tx:
            return tx.repositories.count()

    def complete(self, advance: Callable[[RepositoryName], None]) -> None:
        """Write what is missing; call *advance* after each repository. It may be repeated."""
        last = RepositoryName("")
        while True:
            with self.state.catalog.read() as tx:
                names = [name for name, _ in tx.repositories.walk(last=last, limit=100)]
            if not names:
                break
            for last in names:
                self._repository(last)
                advance(last)
        self._note()

    def _repository(self, name: RepositoryName) -> None:
        """Write what a repository lacks, some rows at a time, each locked against changes meanwhile."""
        self._add_upstream(name)
        blob, digest, tag, image = None, None, None, None
        while blob := self._add_blobs(name, blob):
            pass
        while digest := self._add_manifests(name, digest):
            pass
        while tag := self._add_tags(name, tag):
            pass
        while image := self._add_images(name, image):
            pass

    def _add_upstream(self, name: RepositoryName) -> None:
        with self.state.begin() as tx:
            upstream = tx.repositories.upstream(name) if tx.repositories.lock(name) else None
            if upstream and self._is_absent(upstream_file(name)):
                self.state.links.record_upstream(name, upstream)

    def _add_blobs(self, name: RepositoryName, after: Digest | None) -> Digest | None:
        with self.state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            blobs = tx.linking.blobs(row.id, after) if row else ()
            for digest, at in blobs:
                if self._is_absent(blob_link(name, digest)):
                    self.state.links.add_blob(name, digest, at)
        return blobs[-1][0] if blobs else None

    def _add_manifests(self, name: RepositoryName, after: Digest | None) -> Digest | None:
        """Write what manifests after a digest lack; return the last of them, None if there are none."""
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(name)
            manifests = tx.linking.manifests(row.id, after) if row else ()
            signed = tx.checks.signed(row.id, [each.digest for each in manifests]) if row else {}
        undescribed = {each.digest for each in manifests if not self._is_self_described(each)}
        links = self.state.links
        with self.state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            known = tx.manifests.lock_existing(row.id, {each.digest for each in manifests}) if row else ()
            for each in manifests:
                if each.digest not in known:
                    continue
                if self._is_late(manifest_link(name, each.digest), each.at):
                    links.add_manifest(name, each.digest, each.at, anew=True)
                if each.digest in undescribed and self._is_absent(type_file(name, each.digest)):
                    links.describe_manifest(name, each.digest, each.media_type)
                if each.digest in signed and self._is_absent(signed_link(name, each.digest)):
                    links.add_signed(name, each.digest, signed[each.digest])
                for kind, view in each.views.items():
                    if self._is_absent(view_file(name, each.digest, kind)):
                        links.record_view(name, each.digest, kind, view)
        return manifests[-1].digest if manifests else None

    def _add_tags(self, name: RepositoryName, after: Tag | None) -> Tag | None:
        links = self.state.links
        with self.state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            tags = tx.linking.tags(row.id, after) if row else ()
            for each in tags:
                if self._is_late(tag_link(name, each.name), each.at):
                    links.point_tag(name, each.name, each.manifest, each.at)
                origin = unusual(each.origin)
                if (origin or each.agent) and self._is_absent(origin_file(name, each.name)):
                    links.describe_tag(name, each.name, each.manifest, origin, each.agent)
        return tags[-1].name if tags else None

    def _add_images(self, name: RepositoryName, after: ImageId | None) -> ImageId | None:
        with self.state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            images = tx.linking.v1_images(row.id, after) if row else ()
            for each in images:
                found = tx.v1_images.find(name, each.id)
                if row and found and (each.is_verified or self._is_absent(v1_file(name, each.id))):
                    write_v1_link(self.state, row, found)
        return images[-1].id if images else None

    def _is_self_described(self, manifest: LinkedManifest) -> bool:
        """Return whether a rebuild finds the media type in the document."""
        try:
            payload = self.v1_images.documents.read(manifest.digest)
            return stored(manifest.media_type, payload, manifest.digest).self_described
        except (BlobMissing, BlobDamaged, ManifestInvalid):
            return True  # it cannot be rebuilt in any case

    def _is_absent(self, path: str) -> bool:
        return self.state.links.tree.read_link(path) is None

    def _is_late(self, path: str, at: datetime) -> bool:
        """Return whether a link is missing, or dated otherwise than its row."""
        found = self.state.links.tree.read_link(path)
        return found is None or abs(found.at - at) > _TOLERANCE

    def _note(self) -> None:
        with self.state.catalog.begin() as tx:
            tx.notes.write(Note.LINKS, COMPLETE)
