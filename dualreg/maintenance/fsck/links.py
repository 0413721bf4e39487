"""Link files compared with the rows that they repeat."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from dualreg.catalog.checks import BATCH
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.linking import LinkedManifest, LinkedTag
from dualreg.catalog.rows import RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.maintenance.fsck.documents import Documents
from dualreg.maintenance.fsck.findings import Finding, Kind
from dualreg.registry.pointing import unusual
from dualreg.registry.v1_repairs import v1_facts
from dualreg.storage import Store
from dualreg.storage.base import LinkTree, StoreUnavailable
from dualreg.storage.links import (
    Links,
    blob_link,
    manifest_link,
    origin_file,
    pusher_text,
    signed_link,
    tag_link,
    type_file,
    v1_file,
    view_file,
)
from dualreg.storage.names import BlobName, ManifestName, Names, OddEntry, TagName, V1Name


class Expected(NamedTuple):
    """A link file that there must be.

    Attributes:
        key: That of the row, after which the next page begins.
        tag: The tag that it leads to, if it is one of a tag.
        optional: Whether there may be no such file, since nothing else would be assumed without it.
    """

    key: object
    path: str
    content: bytes
    write: Callable[[], None]
    tag: str = ""
    optional: bool = False


#: What ``Names`` yields of a repository, and with what is not understood.
Name = BlobName | ManifestName | TagName | V1Name
Entry = Name | OddEntry
_UNLISTED = "the catalog does not list it"
#: Returns some of the link files of a repository after a key.
_Page = Callable[[Transaction, RepositoryRow, Any], Sequence[Expected]]


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
    def links(self) -> Links:
        """What writes link files."""
        return Links(self.store)

    def missing(self, repository: RepositoryName) -> Iterator[tuple[Finding, bool]]:
        """Yield link files of rows that are missing or wrong, and whether each was written again."""
        row = self._find(repository)
        if row is None:
            return
        for page in (self._blobs, self._manifests, self._tags, self._images):
            after: object = None
            while True:
                with self.catalog.read() as tx:
                    expected = page(tx, row, after)
                if not expected:
                    break
                if any(self._problem(each) for each in expected):
                    yield from self._confirmed(repository, page, after)
                after = expected[-1].key

    def stray(self, repository: RepositoryName) -> Iterator[tuple[Finding, bool]]:
        """Yield link files that no row needs, and whether each was set aside."""
        names, row = Names(self.store), self._find(repository)
        for walk, page in (
            (names.blobs, self._blobs),
            (names.manifests, self._manifests),
            (names.tags, self._tags),
            (names.v1_images, self._images),
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
        self, repository: RepositoryName, page: _Page, entries: Sequence[Entry]
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
        self, repository: RepositoryName, page: _Page, after: object
    ) -> Iterator[tuple[Finding, bool]]:
        """Look at a page again while nothing can change it, and write what is missing or wrong."""
        found = list[Finding]()
        with self.catalog.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=True)
            for each in page(tx, row, after) if row else ():
                kind = self._problem(each)
                if kind is None:
                    continue
                text = "it is missing" if kind is Kind.NO_LINK else "it says something else than the catalog"
                found.append(_finding(kind, repository, each.path, text, each.tag))
                if self.repair:
                    each.write()
        yield from ((finding, self.repair) for finding in found)

    def _problem(self, expected: Expected) -> Kind | None:
        try:
            found = self.store.read_link(expected.path)
        except StoreUnavailable:
            raise
        except OSError:
            return Kind.WRONG_LINK
        if found is None:
            return None if expected.optional else Kind.NO_LINK
        return None if _same(found.content, expected.content) else Kind.WRONG_LINK

    def _blobs(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        add = partial(self.links.add_blob, row.name)
        return [
            Expected(digest, blob_link(row.name, digest), str(digest).encode(), partial(add, digest, at))
            for digest, at in tx.linking.blobs(row.id, after)
        ]

    def _manifests(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        manifests = tx.linking.manifests(row.id, after)
        signed = tx.checks.signed(row.id, [each.digest for each in manifests])
        return [each for manifest in manifests for each in self._of_manifest(row, manifest, signed)]

    def _of_manifest(
        self, row: RepositoryRow, manifest: LinkedManifest, signed: Mapping[Digest, Digest]
    ) -> Iterator[Expected]:
        """Yield the link file of a manifest, and those beside it."""
        key, media_type, at, views = manifest
        write = partial(self.links.add_manifest, row.name, key, at)
        yield Expected(key, manifest_link(row.name, key), str(key).encode(), write)
        known = self.documents.describes_itself(key, media_type)
        write = partial(self.links.describe_manifest, row.name, key, None if known else media_type)
        yield Expected(key, type_file(row.name, key), media_type.encode(), write, optional=known)
        if form := signed.get(key):
            write = partial(self.links.add_signed, row.name, key, form)
            yield Expected(key, signed_link(row.name, key), str(form).encode(), write)
        for kind, view in views.items():
            write = partial(self.links.record_view, row.name, key, kind, view)
            yield Expected(key, view_file(row.name, key, kind), view.encode(), write)

    def _tags(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        return [each for tag in tx.linking.tags(row.id, after) for each in self._of_tag(row, tag)]

    def _of_tag(self, row: RepositoryRow, linked: LinkedTag) -> Iterator[Expected]:
        """Yield the link file of a tag, and the one that says who pushed it.

        The latter counts while it names the manifest that the tag points at.
        """
        tag, manifest, at, origin, agent = linked
        write = partial(self.links.point_tag, row.name, tag, manifest, at)
        yield Expected(tag, tag_link(row.name, tag), str(manifest).encode(), write, tag)
        said, path = pusher_text(manifest, unusual(origin), agent), origin_file(row.name, tag)
        write = partial(self.links.describe_tag, row.name, tag, manifest, unusual(origin), agent)
        if said:
            yield Expected(tag, path, said.encode(), write, tag)
        elif _names(self.store, path, manifest):
            yield Expected(tag, path, b"", write, tag)

    def _images(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        ids = [each.id for each in tx.linking.v1_images(row.id, after)]
        facts = {id_: v1_facts(image) for id_, image in tx.v1_images.complete_ones(row.id, ids).items()}
        add = partial(self.links.add_v1_image, row.name)
        return [
            Expected(
                id_, v1_file(row.name, id_), json.dumps(facts[id_]).encode(), partial(add, id_, facts[id_])
            )
            for id_ in ids
            if id_ in facts
        ]


def _unlisted(
    tx: Transaction,
    row: RepositoryRow | None,
    repository: RepositoryName,
    page: _Page,
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


def _expected(tx: Transaction, row: RepositoryRow, page: _Page, paths: set[str]) -> set[str]:
    """Return which of *paths* the rows of a repository need."""
    found, after = set[str](), None
    while found != paths and (expected := page(tx, row, after)):
        found |= paths.intersection(each.path for each in expected)
        after = expected[-1].key
    return found


def _same(found: bytes, expected: bytes) -> bool:
    """Return whether two link files say the same: digests, or JSON in any order."""
    if found.strip() == expected:
        return True
    if not expected.startswith(b"{"):
        return False
    try:
        document = json.loads(found)
    except ValueError:
        return False
    facts = json.loads(expected)
    return isinstance(document, dict) and {key: document.get(key) for key in facts} == facts


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


def _names(tree: LinkTree, path: str, manifest: Digest) -> bool:
    """Return whether the file beside a tag says who pushed *manifest*, or cannot be understood."""
    try:
        found = tree.read_link(path)
        return found is not None and json.loads(found.content)["manifest"] == str(manifest)
    except StoreUnavailable:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _finding(kind: Kind, repository: RepositoryName, path: str, text: str, tag: str = "") -> Finding:
    tags = (f"{repository}:{tag}",) if tag else ()
    return Finding(kind, path, text, repository=repository, repositories=(repository,), tags=tags)
