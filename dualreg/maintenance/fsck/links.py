"""Link files compared with the rows that they repeat."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import RepositoryRow
from dualreg.image.names import RepositoryName
from dualreg.maintenance.fsck.findings import Finding, Kind
from dualreg.registry.v1_repairs import v1_facts
from dualreg.storage.base import LinkTree
from dualreg.storage.links import Links, blob_link, manifest_link, signed_link, tag_link, v1_file
from dualreg.storage.names import BlobName, ManifestName, Names, OddEntry, TagName, V1Name


class Expected(NamedTuple):
    """A link file that there must be.

    Attributes:
        key: That of the row, after which the next page begins.
        tag: The tag that it leads to, if it is one of a tag.
    """

    key: object
    path: str
    content: bytes
    write: Callable[[], None]
    tag: str = ""


#: Returns some of the link files of a repository after a key.
_Page = Callable[[Transaction, RepositoryRow, Any], Sequence[Expected]]


@dataclass(frozen=True, slots=True)
class LinkCheck:
    """Compares link files with rows, in both directions.

    Attributes:
        repair: Whether link files that are missing or wrong are written again.
    """

    catalog: Catalog
    tree: LinkTree
    repair: bool = False

    @property
    def links(self) -> Links:
        """What writes link files."""
        return Links(self.tree)

    def missing(self, repository: RepositoryName) -> Iterator[tuple[Finding, bool]]:
        """Yield link files of rows that are missing or wrong, and whether each was written again."""
        for page in (self._blobs, self._manifests, self._tags, self._images):
            after: object = None
            while True:
                with self.catalog.read() as tx:
                    row = tx.repositories.find(repository)
                    expected = page(tx, row, after) if row else ()
                if not expected:
                    break
                if any(self._problem(each) for each in expected):
                    yield from self._confirmed(repository, page, after)
                after = expected[-1].key

    def stray(self, repository: RepositoryName) -> Iterator[Finding]:
        """Yield link files that no row needs."""
        names = Names(self.tree)
        walks = (names.blobs, names.manifests, names.tags, names.v1_images)
        for walk in walks:
            for entry in walk(repository):
                path = entry.path if isinstance(entry, OddEntry) else _path(repository, entry)
                if not self._has_row(repository, entry) and self.tree.read_link(path) is not None:
                    text = entry.reason if isinstance(entry, OddEntry) else "the catalog does not list it"
                    yield Finding(
                        Kind.STRAY_LINK, path, text, repository=repository, repositories=(repository,)
                    )

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
                tags = (f"{repository}:{each.tag}",) if each.tag else ()
                text = "it is missing" if kind is Kind.NO_LINK else "it says something else than the catalog"
                found.append(
                    Finding(
                        kind, each.path, text, repository=repository, repositories=(repository,), tags=tags
                    )
                )
                if self.repair:
                    each.write()
        yield from ((finding, self.repair) for finding in found)

    def _problem(self, expected: Expected) -> Kind | None:
        try:
            found = self.tree.read_link(expected.path)
        except OSError:
            return Kind.WRONG_LINK
        if found is None:
            return Kind.NO_LINK
        return None if _same(found.content, expected.content) else Kind.WRONG_LINK

    def _has_row(
        self, repository: RepositoryName, entry: BlobName | ManifestName | TagName | V1Name | OddEntry
    ) -> bool:
        """Return whether the catalog lists what a link file is of; not of files that cannot be understood."""
        for lock in (False, True):  # services write the file before they commit the row
            with self.catalog.begin() if lock else self.catalog.read() as tx:
                row = tx.repositories.lock(repository) if lock else tx.repositories.find(repository)
                known: object = None
                match entry:
                    case BlobName():
                        known = tx.blobs.find(repository, entry.digest)
                    case ManifestName():
                        known = tx.manifests.find(repository, entry.digest)
                    case TagName():
                        known = tx.manifests.find(repository, entry.tag)
                    case V1Name():
                        known = tx.v1_images.find(repository, entry.id)
                    case OddEntry():
                        known = row and self._expects(tx, row, entry.path)
            if known:
                return True
        return False

    def _expects(self, tx: Transaction, row: RepositoryRow, path: str) -> bool:
        """Return whether a row needs the file: it is then found to be wrong."""
        for page in (self._blobs, self._manifests, self._tags, self._images):
            after: object = None
            while expected := page(tx, row, after):
                if any(each.path == path for each in expected):
                    return True
                after = expected[-1].key
        return False

    def _blobs(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        add = partial(self.links.add_blob, row.name)
        return [
            Expected(digest, blob_link(row.name, digest), str(digest).encode(), partial(add, digest))
            for digest in tx.checks.links(row.id, after)
        ]

    def _manifests(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        manifests = tx.linking.manifests(row.id, after)
        signed = tx.checks.signed(row.id, [each.digest for each in manifests])
        found = list[Expected]()
        for key, _, at, _ in manifests:
            if form := signed.get(key):
                write = partial(self.links.add_signed, row.name, key, form)
                found.append(Expected(key, signed_link(row.name, key), str(form).encode(), write))
            write = partial(self.links.add_manifest, row.name, key, at)
            found.append(Expected(key, manifest_link(row.name, key), str(key).encode(), write))
        return found

    def _tags(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[Expected]:  # noqa: ANN401 -- its own key
        point = partial(self.links.point_tag, row.name)
        return [
            Expected(
                tag,
                tag_link(row.name, tag),
                str(manifest).encode(),
                partial(point, tag, manifest, at),
                tag,
            )
            for tag, manifest, at, *_ in tx.linking.tags(row.id, after)
        ]

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


def _path(repository: RepositoryName, entry: BlobName | ManifestName | TagName | V1Name) -> str:
    match entry:
        case BlobName():
            return blob_link(repository, entry.digest)
        case ManifestName():
            return manifest_link(repository, entry.digest)
        case TagName():
            return tag_link(repository, entry.tag)
        case V1Name():
            return v1_file(repository, entry.id)
