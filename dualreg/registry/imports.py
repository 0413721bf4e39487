"""Imports: new content of several repositories, recorded in one transaction after few waits for the disk.

That is for what an import finds new: tags that do not exist, of images that their repositories do not have.
Anything else raises NotPlain, and is left to the services that record one thing after the other.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import starmap

from dualreg.catalog.database import Transaction
from dualreg.catalog.rebuilding import FoundManifest, FoundTag
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.catalog.views import V1
from dualreg.errors import QuotaExceeded
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.registry.children import ManifestRules, size_mismatches
from dualreg.registry.counting import count_all_links
from dualreg.registry.pointing import unusual
from dualreg.registry.state import State
from dualreg.registry.v1_imported import ImportedImage
from dualreg.registry.v1_repairs import v1_facts
from dualreg.storage.bulk import Bulk, BulkLink, Places, SupportsBulk
from dualreg.storage.links import (
    blob_link,
    origin_file,
    pusher_text,
    revision,
    tag_link,
    v1_file,
)


class NotPlain(Exception):
    """What is to be recorded is not new, or not all that it needs is there."""


@dataclass(frozen=True, slots=True)
class NewManifest:
    """A manifest that its repository does not have; *at*: when it was pushed; *view*: its V1 view."""

    manifest: Manifest
    at: datetime
    view: ImageId | None = None


@dataclass
class Additions:
    """What is new in a repository.

    Attributes:
        blobs: All blobs that the rest needs and that were not linked, documents too, with their sizes.
        images: V1 images, parents first.
        manifests: Indexes come after what they list.
        tags: Those that the repository does not have.
    """

    repository: RepositoryName
    blobs: dict[Digest, int] = field(default_factory=dict)
    images: dict[ImageId, ImportedImage] = field(default_factory=dict)
    manifests: dict[Digest, NewManifest] = field(default_factory=dict)
    tags: list[FoundTag] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Imports:
    """Records what is new.

    Attributes:
        rules: Which manifests are taken.
    """

    state: State
    rules: ManifestRules

    def places(self) -> Places:
        """Return where the store keeps its files, for the ``Bulk`` files of several steps.

        Raises:
            NotPlain: it cannot write in bulk.
        """
        store = self.state.store
        if not isinstance(store, SupportsBulk):
            raise NotPlain("the store cannot write in bulk")
        return store.places()

    def known_images(self, repository: RepositoryName, images: Collection[ImageId]) -> frozenset[str]:
        """Return which of *images* are V1 images of the repository, complete or not."""
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            return tx.rebuild.known_images(row.id, images) if row else frozenset()

    def record(self, added: Sequence[Additions], files: Bulk, announce: Callable[[], None]) -> None:
        """Record additions to different repositories: all of it or nothing, but for bytes.

        Args:
            files: Has the blobs that the store lacks.
            announce: Called when everything is on disk, but has no name yet.

        Raises:
            NotPlain: nothing was recorded.
        """
        now = self.state.catalog.now()
        ordered = sorted(added, key=lambda each: each.repository)
        links = {each.repository: [*_links(each, now)] for each in ordered}
        for each in ordered:
            files.stage_links(links[each.repository])
        files.wait()
        announce()
        self._begin(ordered)
        files.publish()
        try:
            self._record_all(ordered, files, links, now)
        except NotPlain:
            sizes = {digest: size for each in ordered for digest, size in each.blobs.items()}
            self.state.withdraw({digest: sizes[digest] for digest in files.published if digest in sizes})
            raise

    def _begin(self, ordered: Sequence[Additions]) -> None:
        """Let the catalog not be empty: with links in the store, it would be taken for a lost one."""
        with self.state.catalog.read() as tx:
            is_empty = not tx.repositories.any()
        if is_empty and ordered:
            with self.state.begin() as tx:
                tx.repositories.ensure(ordered[0].repository)

    def _record_all(
        self,
        ordered: Sequence[Additions],
        files: Bulk,
        links: Mapping[RepositoryName, Sequence[BulkLink]],
        now: datetime,
    ) -> None:
        """Record additions in one transaction; repositories and blobs are locked in the order of all."""
        with self.state.begin() as tx:
            rows = [tx.repositories.ensure(each.repository, exclusive=True) for each in ordered]
            for row, each in zip(rows, ordered, strict=True):
                _require_new(tx, row, each)
            self._record_blobs(tx, ordered, files.published)
            pairs = [*zip(rows, ordered, strict=True)]
            tx.blobs.link_all(((row.id, digest) for row, each in pairs for digest in each.blobs), now)
            self._count(tx, pairs)
            tx.rebuild.add_v1_images(i.row(row.id) for row, each in pairs for i in each.images.values())
            for row, each in pairs:
                self._record(tx, row, each)
                files.place_links(links[each.repository])
            files.wait()

    def _record_blobs(
        self, tx: Transaction, added: Sequence[Additions], published: Collection[Digest]
    ) -> None:
        """Record the blobs of all repositories, in one order for all transactions.

        Raises:
            NotPlain: one was deleted meanwhile, or is known with another size.
        """
        sizes = {digest: size for each in added for digest, size in each.blobs.items()}
        tx.blobs.record_all(sizes)
        if tx.blobs.sizes(sizes) != sizes:
            raise NotPlain("a blob is known with another size")
        tx.blobs.mend(published)
        for digest, size in sizes.items():
            stored = self.state.store.stat(digest)
            if stored is None or stored.size != size:
                raise NotPlain(f"{digest} is not in the store")

    def _count(self, tx: Transaction, pairs: Sequence[tuple[RepositoryRow, Additions]]) -> None:
        """Count new links for quotas.

        Raises:
            NotPlain: they do not fit, as the import of a single one will say.
        """
        try:
            linked = [(row, [*starmap(BlobRow, each.blobs.items())]) for row, each in pairs]
            count_all_links(self.state.policies, tx, linked)
        except QuotaExceeded as error:
            raise NotPlain(str(error)) from error

    def _record(self, tx: Transaction, row: RepositoryRow, added: Additions) -> None:
        """Record the manifests and tags of a repository, whose blobs are linked."""
        named = {
            child.descriptor.digest for each in added.manifests.values() for child in each.manifest.children
        }
        sizes = tx.blobs.linked(row.id, named | {each.manifest for each in added.tags})
        tx.rebuild.add_manifests(row.id, [self._found(each, sizes) for each in added.manifests.values()])
        tx.rebuild.add_tags(row.id, added.tags)
        tx.history.created(row.id, [tag.name for tag in added.tags])

    def _found(self, new: NewManifest, linked: Mapping[Digest, int]) -> FoundManifest:
        """Return a manifest with its children, as ``resolve_children`` finds them.

        Raises:
            NotPlain: the repository lacks one that is required, or a size is wrong, and rules are strict.
        """
        manifest, sizes = new.manifest, {**linked, empty_layer().digest: len(EMPTY_LAYER)}
        if any(child.descriptor.digest not in sizes for child in manifest.required):
            raise NotPlain("a child is missing")
        if self.rules.strict and any(True for _ in size_mismatches(manifest, sizes)):
            raise NotPlain("a size is wrong")
        held = [child for child in manifest.children if child.descriptor.digest in linked]
        views = {V1: str(new.view)} if new.view else {}
        return FoundManifest(manifest, new.at, held, (), None, views)


def _require_new(tx: Transaction, row: RepositoryRow, added: Additions) -> None:
    """Check that nothing of what is added is there or was deleted, and that what it builds on is there.

    Raises:
        NotPlain.
    """
    tags, manifests = [each.name for each in added.tags], added.manifests.keys()
    needed = {each.manifest for each in added.tags} - manifests
    parents = {image.document.parent for image in added.images.values()} - {None, *added.images}
    if tx.deletions.last(row.name, *tags, *manifests, *needed, *added.images) is not None:
        raise NotPlain("something was deleted")
    if not (needed or parents) and tx.repositories.is_empty(row.id):
        return
    if tx.tags.has_any(row.id, tags) or tx.manifests.awaits_any(row.id):
        raise NotPlain("a tag exists, or a manifest is waited for")
    if tx.manifests.lock_existing(row.id, needed | manifests) != needed:
        raise NotPlain("a manifest exists, or was deleted")
    if tx.rebuild.known_images(row.id, [*added.images, *map(str, parents)]) != parents:
        raise NotPlain("a V1 image exists, or its parent was deleted")


def _links(added: Additions, now: datetime) -> Iterator[BulkLink]:
    """Yield the link files of additions.

    Args:
        now: Since when the repository has its blobs.
    """
    name = added.repository
    for digest in added.blobs:
        folder, _, file = blob_link(name, digest).rpartition("/")
        yield BulkLink(folder, file, str(digest).encode(), now)
    for image in added.images.values():
        folder, _, file = v1_file(name, image.document.id).rpartition("/")
        yield BulkLink(folder, file, json.dumps(v1_facts(image.row(0)), sort_keys=True).encode())
    for digest, new in added.manifests.items():
        folder = revision(name, digest)
        yield BulkLink(folder, "link", str(digest).encode(), new.at)
        if not new.manifest.self_described:
            yield BulkLink(folder, "type", new.manifest.media_type.encode())
        if new.view:
            yield BulkLink(folder, f"views/{V1}", new.view.encode())
    for tag in added.tags:
        file = origin_file(name, tag.name)
        folder, _, described = file.rpartition("/")
        current = tag_link(name, tag.name).removeprefix(f"{folder}/")
        yield BulkLink(folder, current, str(tag.manifest).encode(), tag.at, keeps=False)
        if text := pusher_text(tag.manifest, unusual(tag.origin), tag.agent):
            yield BulkLink(folder, described, text.encode())
