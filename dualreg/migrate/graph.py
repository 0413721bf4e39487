"""The manifest graph: what is exported together with a tag, in the order that a target needs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.tag_schema import subject_prefix, tag_prefix
from dualreg.migrate.findings import Broken
from dualreg.migrate.lookup import Lookup
from dualreg.migrate.own_documents import load_document
from dualreg.registry import Registry

#: Tags whose manifests are looked up together.
_PAGE = 200


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
        page, waiting = waiting[:_PAGE], waiting[_PAGE:]
        lookup = Lookup(registry, repository)
        lookup.look_ahead(page)
        for digest in _exported_with(lookup, page):
            fresh = named.pop(tag_prefix(digest), set())
            found |= fresh
            waiting += fresh
    return found


def _exported_with(lookup: Lookup, tags: Iterable[Tag]) -> Iterator[Digest]:
    """Yield the manifests that are exported with *tags*; nothing about a tag that cannot be is."""
    for tag in tags:
        if top := lookup.tagged(tag):
            with suppress(Broken, BlobMissing):
                yield from [row.digest for row in ManifestGraph(lookup).in_order(top)]


@dataclass(frozen=True, slots=True)
class ManifestGraph:
    """The manifests of a repository that a manifest names, its referrers, and so on, transitively.

    Attributes:
        subjects: Whether subjects are included, too.
    """

    lookup: Lookup
    subjects: bool = False

    def in_order(self, top: ManifestRow) -> list[ManifestRow]:
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
            contents = self.lookup.document(row).contents
            listed = (child for child in contents.children if child.role is Role.MANIFEST)
            rules = self.lookup.registry.manifests.rules
            named = [each.descriptor.digest for each in rules.chosen(listed)]
            subject = [contents.subject.digest] if contents.subject else []
            rows[row.digest], needed[row.digest] = row, [*named, *subject]
            reached = [*named, *self.lookup.referrers(row.digest), *(subject if self.subjects else ())]
            waiting += self.lookup.manifests([digest for digest in reached if digest not in rows])
        order = TopologicalSorter(
            {digest: [each for each in needed[digest] if each in rows] for digest in rows}
        )
        return [rows[digest] for digest in order.static_order()]
