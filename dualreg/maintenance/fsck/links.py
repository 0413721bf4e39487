"""Link files compared with the rows that they repeat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from dualreg.catalog.checks import BATCH
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import RepositoryRow
from dualreg.image.names import RepositoryName
from dualreg.maintenance.expected_links import ExpectedLink, ExpectedLinks, Page, read_links, walk_links
from dualreg.maintenance.fsck.documents import Documents
from dualreg.maintenance.fsck.findings import Finding, Kind
from dualreg.storage import Store
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.links import blob_link, manifest_link, signed_link, tag_link, v1_file, view_file
from dualreg.storage.names import BlobName, ManifestName, Names, OddEntry, TagName, V1Name

#: What ``Names`` yields of a repository, and with what is not understood.
Name = BlobName | ManifestName | TagName | V1Name
Entry = Name | OddEntry
_UNLISTED = "the catalog does not list it"


@dataclass
class LinkCheck:
    """Compares link files with rows, in both directions.

    Attributes:
        repair: Whether link files that are missing or wrong are written again, and others set aside.
    """

    catalog: Catalog
    store: Store
    documents: Documents
    repair: bool = False

    @property
    def expected(self) -> ExpectedLinks:
        """What there must be."""
        return ExpectedLinks(self.documents)

    def missing(self, repository: RepositoryName) -> Iterator[tuple[Finding, bool]]:
        """Yield link files of rows that are missing or wrong, and whether each was written again."""
        row = self._find(repository)
        if row is None:
            return
        for page in self.expected.pages:
            after: object = None
            while True:
                with self.catalog.read() as tx:
                    expected = page(tx, row, after)
                if not expected:
                    break
                if any(self._problems(expected)):
                    yield from self._confirmed(repository, page, after)
                after = expected[-1].key

    def stray(self, repository: RepositoryName) -> Iterator[tuple[Finding, bool]]:
        """Yield link files that no row needs, and whether each was set aside."""
        names, row = Names(self.store), self._find(repository)
        for walk, page in (
            (names.blobs, self.expected.blobs),
            (names.manifests, self.expected.manifests),
            (names.tags, self.expected.tags),
            (names.v1_images, self.expected.images),
        ):
            entries = iter(walk(repository))
            while batch := [*islice(entries, BATCH)]:
                with self.catalog.read() as tx:
                    unlisted = [*_unlisted(tx, row, repository, page, batch)]
                if unlisted:
                    yield from self._set_aside(repository, page, batch)

    def _find(self, repository: RepositoryName) -> RepositoryRow | None:
        """Return the repository as it is now; findings are confirmed later, while it is locked."""
        with self.catalog.read() as tx:
            return tx.repositories.find(repository)

    def _set_aside(
        self, repository: RepositoryName, page: Page, entries: Sequence[Entry]
    ) -> Iterator[tuple[Finding, bool]]:
        """Look at link files again while nothing can change them, and set aside those that no row needs.

        Services write them before they commit the row, and perhaps the repository.
        """
        found = list[Finding]()
        with self.catalog.trial() as trial, trial.begin() as tx:
            row = tx.repositories.ensure(repository, exclusive=True)
            for path, text in _unlisted(tx, row, repository, page, entries):
                if not self._is_there(path):
                    continue
                found.append(_finding(Kind.STRAY_LINK, repository, path, text))
                if self.repair:
                    self.store.quarantine_link(path)
        yield from ((finding, self.repair) for finding in found)

    def _is_there(self, path: str) -> bool:
        """Return whether there is a link file, or something in its place."""
        try:
            return self.store.read_link(path) is not None
        except StoreUnavailable:
            raise
        except OSError:
            return True

    def _confirmed(
        self, repository: RepositoryName, page: Page, after: object
    ) -> Iterator[tuple[Finding, bool]]:
        """Look at a page again while nothing can change it, and write what is missing or wrong."""
        found = list[Finding]()
        with self.catalog.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=True)
            for each, kind in self._problems(page(tx, row, after) if row else ()):
                text = "it is missing" if kind is Kind.NO_LINK else "it says something else than the catalog"
                found.append(_finding(kind, repository, each.path, text, each.tag))
                if self.repair:
                    each.write(self.store)
        yield from ((finding, self.repair) for finding in found)

    def _problems(self, expected: Sequence[ExpectedLink]) -> Iterator[tuple[ExpectedLink, Kind]]:
        """Yield what is missing or wrong."""
        for each, found in zip(expected, read_links(self.store, expected), strict=True):
            if not each.is_right(found):
                yield each, Kind.NO_LINK if found is None else Kind.WRONG_LINK


def _unlisted(
    tx: Transaction,
    row: RepositoryRow | None,
    repository: RepositoryName,
    page: Page,
    entries: Sequence[Entry],
) -> Iterator[tuple[str, str]]:
    """Yield the paths of link files that no row needs, and why not."""
    odd = {each.path.removesuffix("/") for each in entries if isinstance(each, OddEntry)}
    wrong = _expected(tx, row, page, odd) if row and odd else set[str]()  # which ``missing`` finds
    listed = {*_listed(tx, row, entries)} if row else set[str]()
    for entry in entries:
        if not isinstance(entry, OddEntry):
            yield from ((path, _UNLISTED) for path in _paths(repository, entry) if path not in listed)
        elif entry.path.removesuffix("/") not in wrong:
            yield entry.path, entry.reason


def _expected(tx: Transaction, row: RepositoryRow, page: Page, paths: set[str]) -> set[str]:
    """Return which of *paths* the rows of a repository need."""
    found = (each.path for each in walk_links(page, tx, row) if each.path in paths)
    return {*islice(found, len(paths))}  # and no page after the last of them


def _paths(repository: RepositoryName, entry: Name) -> Iterator[str]:
    """Yield the link file of an entry, and those beside it that have rows of their own."""
    match entry:
        case BlobName():
            yield blob_link(repository, entry.digest)
        case ManifestName():
            yield manifest_link(repository, entry.digest)
            if entry.signed:
                yield signed_link(repository, entry.digest)
            yield from (view_file(repository, entry.digest, kind) for kind in entry.views)
        case TagName():
            yield tag_link(repository, entry.tag)
        case V1Name():
            yield v1_file(repository, entry.id)


def _listed(tx: Transaction, row: RepositoryRow, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the paths that rows need, of those that entries of one sort may have."""
    name, first = row.name, next((each for each in entries if not isinstance(each, OddEntry)), None)
    match first:
        case BlobName():
            digests = [each.digest for each in entries if isinstance(each, BlobName)]
            yield from (blob_link(name, digest) for digest in tx.checks.linked(row.id, digests))
        case ManifestName():
            digests = [each.digest for each in entries if isinstance(each, ManifestName)]
            known = tx.manifests.find_all(name, digests)
            yield from (manifest_link(name, digest) for digest in known)
            yield from (signed_link(name, digest) for digest in tx.checks.signed(row.id, digests))
            yield from (view_file(name, *view) for view in tx.checks.views(row.id, digests))
        case TagName():
            tags = [each.tag for each in entries if isinstance(each, TagName)]
            yield from (tag_link(name, tag) for tag in tx.checks.tags(row.id, tags))
        case V1Name():
            ids = [each.id for each in entries if isinstance(each, V1Name)]
            yield from (v1_file(name, image) for image in tx.v1_images.complete_ones(row.id, ids))


def _finding(kind: Kind, repository: RepositoryName, path: str, text: str, tag: str = "") -> Finding:
    tags = (f"{repository}:{tag}",) if tag else ()
    return Finding(kind, path, text, repository=repository, repositories=(repository,), tags=tags)
