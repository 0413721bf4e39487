"""Makes the rows of one repository what the tree says of it.

What is complete is added first, in batches: nothing leads to it yet. Then one transaction moves the tags and
removes what is gone. A process that is killed in between leaves sound content, and the next look does the
rest.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.dialects import batches
from dualreg.catalog.following import RecordedRepository
from dualreg.catalog.rebuilding import FoundBlob
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.maintenance.follow.contents import Contents, ReadyImage, ReadyManifest
from dualreg.maintenance.follow.plan import Plan, plan
from dualreg.maintenance.follow.presence import Presence
from dualreg.maintenance.follow.said import Said
from dualreg.storage import Store

#: Rows that are added in a transaction.
_BATCH = 2000


@dataclass
class Following:
    """Brings one repository up to date.

    Attributes:
        require_tree: Raises OSError if the copy is gone, so that nothing follows from what was not found.
        changed: Whether anything was changed.
        unlinked: How many blobs the tree links that are not there.
    """

    catalog: Catalog
    store: Store
    presence: Presence
    name: RepositoryName
    sparse: bool = False
    require_tree: Callable[[], None] = lambda: None
    changed: bool = False
    unlinked: int = 0

    def update(self, said: Said, lost: Collection[Digest], typed: Collection[Digest]) -> Contents:
        """Make the rows what the tree *said*; return what of that is complete, and what is waiting.

        Args:
            lost, typed: As ``Contents``.

        Raises:
            OSError: as ``require_tree``; nothing was removed.
        """
        recorded = self._recorded()
        contents = Contents(self.store, self.presence, said, recorded, lost, typed, self.sparse, self._sizes)
        self._link(said, recorded.links - {*lost})
        for images in batches(contents.new_images(), _BATCH):
            self._add_images(images)
        for manifests in contents.new_manifests():
            if manifests:
                self._add_manifests(manifests)
        self.require_tree()
        self._finish(contents)
        return contents

    def _recorded(self) -> RecordedRepository:
        with self.catalog.read() as tx:
            return tx.following.recorded(self.name)

    def _sizes(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        with self.catalog.read() as tx:
            return tx.blobs.sizes(digests)

    def _link(self, said: Said, known: Collection[Digest]) -> None:
        """Let the repository read the blobs that the tree links, as far as they are there.

        Args:
            known: Those that it can read already.
        """
        new = (digest for digest in said.blobs if digest not in known)
        for batch in batches(new, _BATCH):
            sizes = self._sizes(batch)
            found = [blob for each in batch if (blob := self.presence.find(each, known=sizes.get(each)))]
            self.unlinked += len(batch) - len(found)
            if found:
                with self.catalog.begin() as tx:
                    self._hold(tx, found, {blob.digest: said.blobs[blob.digest] for blob in found})

    def _hold(self, tx: Transaction, blobs: Iterable[FoundBlob], links: Mapping[Digest, datetime]) -> int:
        """Record blobs, and let the repository read them; return its ID."""
        self.changed = True
        tx.following.add_blobs(blobs)
        id_ = tx.rebuild.repository(self.name, min(links.values()))
        tx.rebuild.link(id_, links)
        return id_

    def _add_images(self, images: Collection[ReadyImage]) -> None:
        with self.catalog.begin() as tx:
            blobs = {blob.digest: blob for image in images for blob in image.blobs}
            id_ = self._hold(tx, blobs.values(), {digest: blob.at for digest, blob in blobs.items()})
            tx.following.remove_images(id_, [image.row.id for image in images])
            tx.rebuild.add_v1_images(replace(image.row, repository_id=id_) for image in images)

    def _add_manifests(self, manifests: Collection[ReadyManifest]) -> None:
        with self.catalog.begin() as tx:
            blobs = {blob.digest: blob for each in manifests for blob in each.blobs}
            id_ = self._hold(tx, blobs.values(), {digest: blob.at for digest, blob in blobs.items()})
            tx.following.add_manifests(id_, [each.found for each in manifests])

    def _finish(self, contents: Contents) -> None:
        """Move the tags, and remove what is gone, if there is anything to do."""
        recorded = self._recorded()
        if recorded.id is None or (plan(contents, recorded).is_empty and recorded.links):
            return
        self.changed = True
        with self.catalog.begin() as tx:
            tx.repositories.lock(self.name, exclusive=True)
            recorded = tx.following.recorded(self.name)  # clients may have had something derived meanwhile
            self._apply(tx, recorded, plan(contents, recorded))

    def _apply(self, tx: Transaction, recorded: RecordedRepository, made: Plan) -> None:
        if (id_ := recorded.id) is None:
            return
        rows = tx.following
        rows.put_tags(id_, made.tags)
        rows.remove_tags(id_, made.removed_tags)
        rows.put_views(id_, made.views)
        rows.forget_views(id_, made.forgotten_views)
        rows.remove_manifests(id_, made.removed_manifests)
        rows.remove_images(id_, made.removed_images)
        rows.remove_links(id_, made.removed_links)
        if len(made.removed_links) == len(recorded.links):
            rows.remove_repository(id_)
        for batch in batches(made.removed_links):
            for digest in tx.blobs.release(*batch):
                self.store.delete(digest)  # what was derived here; the copy is left alone
