"""Loaded: manifests that come from upstream, some of whose children have not been loaded yet."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow
from dualreg.errors import RepositoryOwned
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State
from dualreg.registry.upstream import load_blob


@dataclass(frozen=True, slots=True)
class Loaded:
    """Says what is known of manifests from upstream."""

    state: State
    documents: DocumentCache

    def platforms(self, repository: RepositoryName, digest: Digest) -> list[Mapping[str, object]]:
        """Return the platforms that indexes of the repository give a manifest that it lacks."""
        with self.state.catalog.read() as tx:
            indexes = tx.manifests.awaiting(repository, digest)
        contents = [stored_contents(row.media_type, self.documents.read(row.digest)) for row in indexes]
        entries = (child.descriptor for each in contents for child in each.children)
        return [entry.platform for entry in entries if entry.digest == digest]

    def claim(self, repository: RepositoryName, upstream: str) -> None:
        """Create the repository for content from upstream; raises as ``claim``."""
        with self.state.catalog.read() as tx:
            if tx.repositories.upstream(repository) == upstream:
                return
        with self.state.begin() as tx:
            claim(self.state, tx, tx.repositories.ensure(repository, exclusive=True), upstream)

    def confirm(self, repository: RepositoryName, tag: Tag) -> None:
        """Record that upstream was asked just now what a tag points at, and that it is the same."""
        with self.state.begin() as tx:
            if row := tx.repositories.lock(repository):
                tx.tags.confirm(row.id, [tag])


def load_children(state: State, repository: RepositoryName, manifest: Digest, *roles: Role) -> None:
    """Have upstream load the children of a manifest in some roles, as far as the repository lacks them.

    Raises:
        UpstreamFailed, ServerBusy: one of them cannot be loaded now.
    """
    if not state.upstream.covers(repository):
        return
    with state.catalog.read() as tx:
        lacking = tx.manifests.lacking(repository, manifest, roles)
    for digest in lacking:
        load_blob(state.upstream, repository, digest)


def load_blobs(state: State, repository: RepositoryName, digests: Collection[Digest]) -> None:
    """Have upstream load blobs, as far as the repository lacks them; raises as ``load_children``."""
    if not state.upstream.covers(repository):
        return
    with state.catalog.read() as tx:
        known = tx.blobs.known(repository, digests)
    for digest in digests:
        if digest not in known or not known[digest][1]:
            load_blob(state.upstream, repository, digest)


def claim(state: State, tx: Transaction, repository: RepositoryRow, upstream: str) -> None:
    """Record that the content of a repository, which is locked against all changes, comes from upstream.

    Raises:
        RepositoryOwned: clients have pushed to it.
    """
    known = tx.repositories.upstream(repository.name)
    if known == upstream:
        return
    if known is None and not tx.repositories.is_empty(repository.id):
        raise RepositoryOwned(name=repository.name)
    tx.repositories.record_upstream(repository.id, upstream)
    state.links.record_upstream(repository.name, upstream)
