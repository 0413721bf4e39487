"""The manifest graph: what is exported together with a tag, in the order that a target needs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.formats import Contents, Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.tag_schema import subject_prefix, tag_prefix
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.registry import Registry


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest of this registry, verified against its digest."""

    payload: bytes
    contents: Contents


def read_document(registry: Registry, digest: Digest) -> bytes:
    """Return a manifest, config or V1 image JSON, verified against its digest.

    Raises:
        Broken: it is damaged.
        BlobMissing.
    """
    try:
        return registry.documents.read(digest)
    except BlobDamaged as error:
        raise Broken(FindingKind.CORRUPT, str(digest), "damaged in this registry") from error


def load_document(registry: Registry, row: ManifestRow) -> Document:
    """Return the manifest of a row.

    Raises:
        Broken: it is damaged.
        BlobMissing.
    """
    payload = read_document(registry, row.digest)
    return Document(payload, stored_contents(row.media_type, payload))


def is_blob_only(registry: Registry, repository: RepositoryName, digest: Digest) -> bool:
    """Return whether the repository has what an index names as a blob, and not as a manifest."""
    known = registry.manifests.peek(repository, digest)
    return known is None and registry.blobs.find(repository, digest) is not None


def absent_entries(registry: Registry, repository: RepositoryName, top: Digest) -> Iterator[Digest]:
    """Yield what an index lists, directly or not, that is to be copied, and is not in the repository.

    Raises:
        Broken: an index is damaged.
        BlobMissing.
    """
    seen, waiting = {top}, registry.manifests.peek_all(repository, [top])
    while waiting:
        contents = load_document(registry, waiting.pop()).contents
        listed = [child for child in contents.children if child.role is Role.MANIFEST]
        wanted = [child.descriptor.digest for child in registry.manifests.rules.chosen(listed)]
        known = registry.blobs.known(repository, wanted) if wanted else {}
        held = [digest for digest in wanted if known.get(digest, (None, False))[1]]
        yield from (digest for digest in wanted if digest not in held)
        waiting += registry.manifests.peek_all(repository, [each for each in held if each not in seen])
        seen |= {*held}


def tags_about(
    registry: Registry, repository: RepositoryName, chosen: Iterable[Tag], others: Iterable[Tag]
) -> set[Tag]:
    """Return those of *others* that are named after a manifest which is exported with *chosen* ones."""
    named: dict[str, set[Tag]] = defaultdict(set)
    for tag in others:
        if subject := subject_prefix(tag):
            named[subject].add(tag)
    found: set[Tag] = set()
    waiting = [*chosen] if named else []
    while waiting:
        top = registry.manifests.peek(repository, waiting.pop())
        try:
            rows = ManifestGraph(registry).in_order(repository, top) if top else []
        except (Broken, BlobMissing):
            continue  # it cannot be exported, so nothing about it is
        for row in rows:
            fresh = named.pop(tag_prefix(row.digest), set())
            found |= fresh
            waiting += fresh
    return found


@dataclass(frozen=True, slots=True)
class ManifestGraph:
    """The manifests that a manifest names, its referrers, and so on, transitively.

    Attributes:
        subjects: Whether subjects are included, too.
    """

    registry: Registry
    subjects: bool = False

    def in_order(self, repository: RepositoryName, top: ManifestRow) -> list[ManifestRow]:
        """Return *top* and the manifests that are exported with it, each after its children and its subject.

        There is such an order, since each contains the digests of those. Manifests that a sparse index names
        and the repository does not hold are left out.

        Raises:
            Broken: one of them is damaged.
            BlobMissing.
        """
        rows: dict[Digest, ManifestRow] = {}
        needed: dict[Digest, list[Digest]] = {}
        waiting = [top]
        while waiting:
            row = waiting.pop()
            if row.digest in rows:
                continue
            contents = load_document(self.registry, row).contents
            listed = (child for child in contents.children if child.role is Role.MANIFEST)
            named = [each.descriptor.digest for each in self.registry.manifests.rules.chosen(listed)]
            subject = [contents.subject.digest] if contents.subject else []
            rows[row.digest], needed[row.digest] = row, [*named, *subject]
            reached = [*named, *self._referrers(repository, row.digest), *(subject if self.subjects else ())]
            unseen = [digest for digest in reached if digest not in rows]
            waiting += self.registry.manifests.peek_all(repository, unseen)
        order = TopologicalSorter(
            {digest: [each for each in needed[digest] if each in rows] for digest in rows}
        )
        return [rows[digest] for digest in order.static_order()]

    def _referrers(self, repository: RepositoryName, digest: Digest) -> Iterator[Digest]:
        after = None
        while True:
            page = self.registry.referrers.list(repository, digest, after=after)
            for row in page.rows:
                yield row.digest
                after = (row.pushed_at, row.digest)
            if not page.more:
                return
