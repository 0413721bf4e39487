"""Repairs of what a check finds. Bytes are taken only if they have the digest that they should have."""

import errno
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest, stored
from dualreg.image.names import RepositoryName
from dualreg.maintenance.fsck.findings import Finding, Kind
from dualreg.registry import Registry
from dualreg.storage.base import StoreUnavailable

_log = logging.getLogger(__name__)
#: Returns the bytes of a blob or manifest as another registry has them; None if it does not.
Fetch = Callable[[RepositoryName, Digest], Iterable[bytes] | None]


def fetch_nothing(repository: RepositoryName, digest: Digest) -> None:
    """Ask no other registry."""
    del repository, digest


@dataclass(frozen=True, slots=True)
class Repair:
    """Sets damaged files aside, derives again what was derived, and fetches the rest from another registry.

    Attributes:
        fetch: Where bytes are fetched from that are lost.
    """

    registry: Registry
    catalog: Catalog
    fetch: Fetch = fetch_nothing

    def apply(self, finding: Finding) -> bool:
        """Repair what was found; return whether that was possible."""
        digest = finding.digest
        if digest is None:
            return False
        match finding.kind:
            case Kind.LOST | Kind.SIZE | Kind.CORRUPT | Kind.UNREADABLE:
                return self._blob(digest, finding)
            case Kind.VIEW:
                name = finding.repository
                return name is not None and self.registry.derived.forget_view(name, digest, finding.detail)
            case Kind.UNLISTED | Kind.MEDIA_TYPE:
                return self._describe(digest, finding)
            case Kind.CHILD:
                return finding.repository is not None and self._child(finding, finding.repository)
        return False

    def count(self, pattern: str) -> bool:
        """Count for a quota from scratch; return whether there is one."""
        return self.registry.quotas.count(pattern) >= 0

    def _blob(self, digest: Digest, finding: Finding) -> bool:
        """Have a blob again: as it is if only its size was wrong, derived again, or fetched."""
        integrity = self.registry.integrity
        try:
            if integrity.verify(digest):
                return self._correct_size(digest)
        except BlobMissing as error:
            _log.info("%s: %s", digest, error)
        except StoreUnavailable:
            raise
        except OSError as error:
            _log.info("%s: %s", digest, error)
            self._set_aside(digest, error)
        integrity.alarm(digest, finding.text)
        names = [RepositoryName(name) for name in finding.repositories]
        return integrity.restore(digest) or self._sign_again(digest, names) or self._fetch(digest, names)

    def _child(self, finding: Finding, name: RepositoryName) -> bool:
        """Have what a manifest names: linked to its repository if the store has it, or fetched."""
        child, manifest = Digest.parse(finding.detail), finding.digest
        size = self.registry.blobs.stored_size(child)
        try:
            if size is not None and self.registry.integrity.verify(child):
                self.registry.blobs.share(name, BlobRow(child, size))
            elif not self._fetch(child, [name]):
                return False
        except (BlobMissing, BlobDamaged, OSError) as error:
            _log.info("%s cannot be linked to %s: %s", child, name, error)
            return False
        return manifest is not None and self._describe(manifest, replace(finding, detail=""))

    def _set_aside(self, digest: Digest, error: OSError) -> None:
        """Take a blob out of service that the disk fails to read, so that the next push sends it."""
        if error.errno == errno.EIO:
            with suppress(BlobMissing, OSError), self.registry.blobs.open(digest) as reader:
                self.registry.integrity.withdraw(digest, reader, f"it cannot be read ({error.strerror})")

    def _correct_size(self, digest: Digest) -> bool:
        with self.catalog.begin() as tx:
            found = self.registry.blobs.stored_size(digest)
            if found is None or tx.checks.lock(digest) is None:
                return False
            tx.blobs.correct(digest, found)
        return True

    def _sign_again(self, digest: Digest, names: Iterable[RepositoryName]) -> bool:
        """Sign schema 1 manifests again whose signed form is lost; their digests stay."""
        signed = False
        for name in names:
            with self.catalog.read() as tx:
                row = tx.repositories.find(name)
                manifests = tx.checks.signed_as(row.id, digest) if row else ()
            for manifest in manifests:
                found = self.registry.manifests.peek(name, manifest)
                try:
                    if found and self.registry.negotiation.signed(name, found):
                        self.registry.blobs.release(name, digest)
                        signed = True
                except (BlobMissing, BlobDamaged, RegistryError) as error:
                    _log.info("%s@%s cannot be signed again: %s", name, manifest, error)
        return signed

    def _fetch(self, digest: Digest, names: Iterable[RepositoryName]) -> bool:
        for name in names:
            try:
                chunks = self.fetch(name, digest)
                if chunks is not None:
                    self.registry.uploads.ingest(name, chunks, expected=digest)
                    return True
            except (RegistryError, OSError) as error:
                _log.warning("%s cannot be fetched: %s", digest, error)
        return False

    def _describe(self, digest: Digest, finding: Finding) -> bool:
        """Record again what the document of a manifest says."""
        name = finding.repository
        row = self.registry.manifests.peek(name, digest) if name else None
        if name is None or row is None:
            return False
        manifest: Manifest = stored(
            finding.detail or row.media_type, self.registry.manifests.payload(row), digest
        )
        with self.catalog.begin() as tx:
            locked = tx.repositories.lock(name, exclusive=True)
            if locked is None or not tx.manifests.lock(locked.id, digest):
                return False
            held = tx.blobs.linked(locked.id, {child.descriptor.digest for child in manifest.children})
            tx.manifests.redescribe(locked.id, manifest)
            children = [child for child in manifest.children if child.descriptor.digest in held]
            tx.manifests.record_children(locked.id, manifest, children)
        return True
