"""Expected links: the link files that there must be by the rows of a repository, some at a time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.linking import LinkedManifest, LinkedTag
from dualreg.catalog.rows import RepositoryRow
from dualreg.image.digest import Digest
from dualreg.maintenance.fsck.documents import Documents
from dualreg.registry.pointing import unusual
from dualreg.registry.v1_repairs import v1_facts
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.link_tree import LinkFile, LinkTree
from dualreg.storage.links import (
    blob_link,
    manifest_link,
    origin_file,
    pusher_text,
    signed_link,
    tag_link,
    type_file,
    upstream_file,
    v1_file,
    view_file,
)

#: How far the time of a link may be from that of its row: by the resolution of rows, or by a moment.
_ROUNDING, _MOMENT = timedelta(microseconds=1), timedelta(seconds=5)


class ExpectedLink(NamedTuple):
    """A link file that there must be, or one that there need not be.

    Attributes:
        key: That of the row, after which the next page begins.
        at: The time of the row; None: it has none.
        is_about: Whether services date the file a moment before the row.
        tag: The tag that it leads to, if it is one of a tag.
        optional: Whether there may be no such file, since nothing else would be assumed without it.
        unsaid: A file that describes this manifest must not be there: there is nothing to say of it.
    """

    key: object
    path: str
    content: bytes
    at: datetime | None = None
    is_about: bool = False
    tag: str = ""
    optional: bool = False
    unsaid: Digest | None = None

    def is_right(self, found: LinkFile | OSError | None) -> bool:
        """Return whether a file that was read says what the row says, whenever that was written."""
        if isinstance(found, OSError):
            return False
        if found is None:
            return self.optional
        if self.unsaid:
            return not _describes(found.content, self.unsaid)
        return _same(found.content, self.content)

    def is_dated(self, found: LinkFile) -> bool:
        """Return whether a file has the time of the row, which may have been rounded, or cut to seconds."""
        if self.at is None or found.at == self.at.replace(microsecond=0):
            return True
        return abs(found.at - self.at) <= (_MOMENT if self.is_about else _ROUNDING)

    def write(self, tree: LinkTree) -> None:
        """Write the file anew, or remove it if it is not needed."""
        if self.optional:
            tree.remove_link(self.path)
        else:
            tree.write_link(self.path, self.content, self.at)


#: Returns some of the link files of a repository after a key.
Page = Callable[[Transaction, RepositoryRow, Any], Sequence[ExpectedLink]]


@dataclass(frozen=True, slots=True)
class ExpectedLinks:
    """Reads the rows; *documents* say of which manifests the media type must be recorded."""

    documents: Documents

    @property
    def pages(self) -> Sequence[Page]:
        """What returns the link files of each sort."""
        return self.blobs, self.manifests, self.tags, self.images, self.upstream

    def blobs(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[ExpectedLink]:  # noqa: ANN401 -- its own key
        """Return some link files of blobs."""
        return [
            ExpectedLink(digest, blob_link(row.name, digest), str(digest).encode(), at, is_about=True)
            for digest, at in tx.linking.blobs(row.id, after)
        ]

    def manifests(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[ExpectedLink]:  # noqa: ANN401 -- its own key
        """Return some link files of manifests, and those beside them."""
        manifests = tx.linking.manifests(row.id, after)
        signed = tx.checks.signed(row.id, [each.digest for each in manifests])
        return [each for manifest in manifests for each in self._of_manifest(row, manifest, signed)]

    def _of_manifest(
        self, row: RepositoryRow, manifest: LinkedManifest, signed: Mapping[Digest, Digest]
    ) -> Iterator[ExpectedLink]:
        key, media_type, at, views = manifest
        yield ExpectedLink(key, manifest_link(row.name, key), str(key).encode(), at)
        known = self.documents.describes_itself(key, media_type)
        yield ExpectedLink(key, type_file(row.name, key), media_type.encode(), optional=known)
        if form := signed.get(key):
            yield ExpectedLink(key, signed_link(row.name, key), str(form).encode())
        for kind, view in views.items():
            yield ExpectedLink(key, view_file(row.name, key, kind), view.encode())

    def tags(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[ExpectedLink]:  # noqa: ANN401 -- its own key
        """Return some link files of tags, and those beside them."""
        return [each for tag in tx.linking.tags(row.id, after) for each in _of_tag(row, tag)]

    def images(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[ExpectedLink]:  # noqa: ANN401 -- its own key
        """Return some link files of V1 images."""
        ids = [each.id for each in tx.linking.v1_images(row.id, after)]
        facts = {id_: v1_facts(image) for id_, image in tx.v1_images.complete_ones(row.id, ids).items()}
        return [
            ExpectedLink(id_, v1_file(row.name, id_), json.dumps(facts[id_], sort_keys=True).encode())
            for id_ in ids
            if id_ in facts
        ]

    def upstream(self, tx: Transaction, row: RepositoryRow, after: Any) -> Sequence[ExpectedLink]:  # noqa: ANN401 -- its own key
        """Return the file that says where the content comes from, if it comes from another registry."""
        url = None if after else tx.repositories.upstream(row.name)
        return [ExpectedLink(url, upstream_file(row.name), url.encode())] if url else []


def walk_links(page: Page, tx: Transaction, row: RepositoryRow) -> Iterator[ExpectedLink]:
    """Yield all link files of one sort that there must be, page after page."""
    after: object = None
    while links := page(tx, row, after):
        yield from links
        after = links[-1].key


def _of_tag(row: RepositoryRow, linked: LinkedTag) -> Iterator[ExpectedLink]:
    """Yield the link file of a tag, and the one that says who pushed it.

    The latter counts while it names the manifest that the tag points at.
    """
    tag, manifest, at, origin, agent = linked
    yield ExpectedLink(tag, tag_link(row.name, tag), str(manifest).encode(), at, tag=tag)
    said, path = pusher_text(manifest, unusual(origin), agent), origin_file(row.name, tag)
    if said:
        yield ExpectedLink(tag, path, said.encode(), tag=tag)
    else:
        yield ExpectedLink(tag, path, b"", tag=tag, optional=True, unsaid=manifest)


def read_links(tree: LinkTree, links: Sequence[ExpectedLink]) -> Sequence[LinkFile | OSError | None]:
    """Return the files that there are, several at once; for one that cannot be read, the error.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    try:
        return tree.read_links([each.path for each in links])
    except StoreUnavailable:
        raise
    except OSError:
        return [_read(tree, each.path) for each in links]


def _read(tree: LinkTree, path: str) -> LinkFile | OSError | None:
    try:
        return tree.read_link(path)
    except StoreUnavailable:
        raise
    except OSError as error:
        return error


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


def _describes(content: bytes, manifest: Digest) -> bool:
    """Return whether the file beside a tag says who pushed *manifest*, or cannot be understood."""
    try:
        return bool(json.loads(content)["manifest"] == str(manifest))
    except (ValueError, KeyError, TypeError):
        return True
