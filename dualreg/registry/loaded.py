"""Loaded: manifests that come from upstream, some of whose children have not been loaded yet."""

from collections.abc import Mapping
from dataclasses import dataclass

from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State


@dataclass(frozen=True, slots=True)
class Loaded:
    """Loads what manifests from upstream lack, and says what is known of it."""

    state: State
    documents: DocumentCache

    def require(self, repository: RepositoryName, manifest: Digest, *roles: Role) -> None:
        """Load the children of a manifest in these roles, as far as they are missing.

        Raises:
            UpstreamFailed, ServerBusy: one of them cannot be loaded now.
        """
        upstream = self.state.upstream
        if not upstream.covers(repository):
            return
        with self.state.catalog.read() as tx:
            missing = tx.manifests.lacking(repository, manifest, roles)
        for digest in missing:
            upstream.load_blob(repository, digest)

    def platforms(self, repository: RepositoryName, digest: Digest) -> list[Mapping[str, object]]:
        """Return the platforms that indexes of the repository give a manifest that it lacks."""
        with self.state.catalog.read() as tx:
            indexes = tx.manifests.awaiting(repository, digest)
        contents = [stored_contents(row.media_type, self.documents.read(row.digest)) for row in indexes]
        entries = (child.descriptor for each in contents for child in each.children)
        return [entry.platform for entry in entries if entry.digest == digest]

    def confirm(self, repository: RepositoryName, tag: Tag) -> None:
        """Record that upstream was asked just now what a tag points at, and that it is the same."""
        with self.state.begin() as tx:
            if row := tx.repositories.lock(repository):
                tx.tags.confirm(row.id, [tag])
