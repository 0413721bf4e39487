"""Closure: what leaves with a tag, in the order in which it must."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.formats import Contents, Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.tag_schema import subject_prefix, tag_prefix
from dualreg.migrate.transfer import DigestVerifier
from dualreg.registry import Registry


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as it is kept here, held against its digest."""

    payload: bytes
    contents: Contents


def read_document(registry: Registry, digest: Digest) -> bytes:
    """Return a manifest, config or JSON of a V1 image.

    Raises:
        Broken: it is not what its digest says.
        BlobMissing.
    """
    checked, content = DigestVerifier(digest), registry.documents.read(digest)
    checked.update(content)
    checked.check()
    return content


def document(registry: Registry, row: ManifestRow) -> Document:
    """Return what the row is of.

    Raises:
        Broken: it is not what its digest says.
        BlobMissing.
    """
    payload = read_document(registry, row.digest)
    return Document(payload, stored_contents(row.media_type, payload))


def about(
    registry: Registry, repository: RepositoryName, chosen: Iterable[Tag], others: Iterable[Tag]
) -> set[Tag]:
    """Return those of *others* that are called like something that leaves with *chosen* ones."""
    named: dict[str, set[Tag]] = defaultdict(set)
    for tag in others:
        if subject := subject_prefix(tag):
            named[subject].add(tag)
    found: set[Tag] = set()
    waiting = [*chosen] if named else []
    while waiting:
        top = registry.manifests.peek(repository, waiting.pop())
        try:
            rows = ManifestGraph(registry).of(repository, top) if top else []
        except (Broken, BlobMissing):
            continue  # it does not leave, nor does what is about it
        for row in rows:
            fresh = named.pop(tag_prefix(row.digest), set())
            found |= fresh
            waiting += fresh
    return found


@dataclass(frozen=True, slots=True)
class ManifestGraph:
    """What is named by a manifest, and what is about it, and so on.

    Attributes:
        subjects: Whether what something is about comes along with it.
    """

    registry: Registry
    subjects: bool = False

    def of(self, repository: RepositoryName, top: ManifestRow) -> list[ManifestRow]:
        """Return the manifests that leave with *top*, each after those that it names and the one it is about.

        There is such an order, as every one has the digests of those in it. What a sparse index names and the
        repository does not hold is left out.

        Raises:
            Broken: one of them is not what its digest says.
            BlobMissing.
        """
        rows: dict[Digest, ManifestRow] = {}
        needed: dict[Digest, list[Digest]] = {}
        waiting = [top]
        while waiting:
            row = waiting.pop()
            if row.digest in rows:
                continue
            contents = document(self.registry, row).contents
            named = [child.descriptor.digest for child in contents.children if child.role is Role.MANIFEST]
            about = [contents.subject.digest] if contents.subject else []
            rows[row.digest], needed[row.digest] = row, [*named, *about]
            reached = [*named, *self._referrers(repository, row.digest), *(about if self.subjects else ())]
            unseen = (digest for digest in reached if digest not in rows)
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
