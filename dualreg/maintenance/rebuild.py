"""Rebuild: makes the catalog from the link files and the blobs of the store.

The catalog must have its tables, and no content but that of an interrupted rebuild. Repositories are recorded
one after the other, in batches of short transactions, and each batch may be recorded again; a note in the
catalog says which repository was the last, and that the catalog is not complete. No blob but manifests is
read. What cannot be understood is a finding, and everything else is recorded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from threading import Event
from typing import TypeVar

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.notes import Note
from dualreg.catalog.rebuilding import FoundBlob, FoundManifest
from dualreg.catalog.rows import Origin, RepositoryRow
from dualreg.catalog.views import V1
from dualreg.errors import BlobMissing, ManifestInvalid, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName
from dualreg.maintenance.rebuilt import Damage, Finding, Rebuilt
from dualreg.maintenance.recording import read_manifest, tag_row, v1_row
from dualreg.registry.collections import Collections
from dualreg.registry.linking import COMPLETE
from dualreg.registry.recognition import Recognition
from dualreg.registry.sweep import sweep_rows
from dualreg.storage import Store
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.names import BlobName, ManifestName, Names, OddEntry, TagName

#: Rows that are recorded in a transaction.
_BATCH = 2000
#: Manifests that are; each has many rows, and its document is in memory.
_MANIFESTS = 100
_Item = TypeVar("_Item")
_Read = tuple[ManifestName, Manifest]


#: Called with the repositories and the link files that are done since the last call.
Advance = Callable[[int, int], None]


class CatalogNotEmpty(Exception):
    """The catalog has content that no rebuild has recorded."""


@dataclass
class Rebuild:
    """Records the content of a store in a catalog.

    Attributes:
        recognition: Of a registry over both. It finds the manifests that were made of V1 images, if a former
            version wrote the tree; None: they are not looked for.
        sparse: Whether indexes may have been pushed without all that they list. If not, what they list was
            in the repository, and is linked again; else that could be content of another repository.
        stop: Set from outside to stop between two batches; a rebuild that starts later goes on there.
    """

    catalog: Catalog
    store: Store
    recognition: Recognition | None = None
    advance: Advance = lambda *_: None
    sparse: bool = True
    stop: Event = field(default_factory=Event)
    result: Rebuilt = field(default_factory=Rebuilt)

    @property
    def names(self) -> Names:
        """The names in the store."""
        return Names(self.store)

    def begin(self, *, replace: bool = False) -> None:
        """Note that the catalog is incomplete from now on; what a power cut takes from it is done again.

        Args:
            replace: Delete the content that it has.

        Raises:
            CatalogNotEmpty: it has some, and *replace* is off.
        """
        with self.catalog.begin() as tx:
            unfinished = tx.notes.read(Note.REBUILD) is not None
            if replace:
                tx.rebuild.clear()
                tx.notes.remove(Note.RESTORE)
                tx.notes.remove(Note.COPY)
            elif tx.repositories.any() and not unfinished:
                raise CatalogNotEmpty
            if replace or not unfinished:
                tx.notes.write(Note.REBUILD, "")
                tx.notes.remove(Note.SWEEP)
                tx.notes.write(Note.COLLECTIONS, str(Collections(self.catalog, self.store).stored()))
        self.catalog.hasten()

    def run(self) -> Rebuilt:
        """Record everything, from where the last rebuild was stopped; then the catalog is complete."""
        with self.catalog.read() as tx:
            last = tx.notes.read(Note.REBUILD) or ""
        for batch in self.batches(self._blobs(), _BATCH):
            with self.catalog.begin() as tx:
                tx.rebuild.add_blobs(batch)
            self.result.counts["blobs"] += len(batch)
        for name in self.understood(self.names.repositories()):
            if last and _place(name) <= _place(RepositoryName(last)):
                continue
            if self.stop.is_set():
                return self.result
            if not _Repository(self, name).record():
                return self.result
        unfinished = sweep_rows(self.catalog)  # the tree does not say what was noted to be garbage
        while not self.stop.is_set() and next(unfinished, None):
            pass
        if not self.stop.is_set():
            with self.catalog.begin() as tx:
                tx.rebuild.wait_for_disk()
                tx.notes.remove(Note.REBUILD)
                tx.notes.remove(Note.SWEEP)
                tx.notes.write(Note.LINKS, COMPLETE)
                for each in tx.webhooks.list():  # now: what happens before a server delivers is for them
                    tx.webhooks.begin(each.name)
            self.catalog.settle()
            self.result.complete = True
        return self.result

    def find(self, kind: Damage, where: object, text: str) -> None:
        """Note a finding."""
        self.result.findings.append(Finding(kind, str(where), text))

    def understood(self, entries: Iterable[_Item | OddEntry]) -> Iterator[_Item]:
        """Yield entries but those that are not understood, which are findings."""
        for entry in entries:
            if isinstance(entry, OddEntry):
                self.find(Damage.ODD, entry.path, entry.reason)
            else:
                yield entry

    def batches(self, items: Iterable[_Item], size: int) -> Iterator[Sequence[_Item]]:
        """Yield *items* in lists of up to *size*, until the rebuild is stopped."""
        rest = iter(items)
        while not self.stop.is_set() and (batch := [*islice(rest, size)]):
            yield batch

    def _blobs(self) -> Iterator[FoundBlob]:
        for blob in self.store.walk():
            yield FoundBlob(blob.digest, blob.size, blob.modified_at)


@dataclass
class _Repository:
    """Records one repository: what it may read, and then what consists of that.

    Attributes:
        upstream: The registry that its content comes from: what manifests lack can be loaded from there.
        lost: Digests that were found missing.
        recognized: Manifests that were recognized as made of V1 images: V1 clients pushed their tags.
    """

    rebuild: Rebuild
    name: RepositoryName
    id: int = 0
    upstream: str | None = None
    lost: set[Digest] = field(default_factory=set)
    recognized: set[Digest] = field(default_factory=set)

    def record(self) -> bool:
        """Record the repository; return False if that was stopped."""
        self.upstream = self.rebuild.names.upstream(self.name)
        steps = (self._link, self._add_v1_images, self._add_manifests, self._recognize, self._add_tags)
        for step in steps:
            step()
            if self.rebuild.stop.is_set():
                return False
        with self.rebuild.catalog.begin() as tx:
            tx.notes.write(Note.REBUILD, self.name)
        self._count("repositories", int(self.id > 0))
        self.rebuild.advance(1, 0)
        return True

    def _link(self) -> None:
        """Record what the repository may read; trees of the reference registry do not link manifests."""
        names = self.rebuild.names
        blobs = ((each, each.digest, each.at) for each in self.rebuild.understood(names.blobs(self.name)))
        manifests = (
            (None, each.digest, each.at)
            for each in names.manifest_blobs(self.name)
            if isinstance(each, BlobName)
        )
        for batch in self.rebuild.batches(chain(blobs, manifests), _BATCH):
            times = {digest: at for _, digest, at in reversed(batch)}
            with self.rebuild.catalog.begin() as tx:
                self.id = tx.rebuild.repository(self.name, min(times.values()))
                tx.repositories.record_upstream(self.id, self.upstream)
                missing = tx.rebuild.link(self.id, times)
            self._lose(missing.intersection(digest for blob, digest, _ in batch if blob))
            self._count("links", len(batch))

    def _add_v1_images(self) -> None:
        images = self.rebuild.understood(self.rebuild.names.v1_images(self.name))
        for batch in self.rebuild.batches(images, _BATCH):
            with self.rebuild.catalog.begin() as tx:
                held = self._held(tx, {digest for image in batch for digest in (image.json, image.layer)})
                whole = [image for image in batch if held.issuperset((image.json, image.layer))]
                tx.rebuild.add_v1_images(v1_row(self.id, image) for image in whole)
            for image in {*batch}.difference(whole):
                self._find(Damage.NO_IMAGE, f" image {image.id}", "its JSON or layer is missing")
            self._count("v1_images", len(whole))
        if self.rebuild.stop.is_set():
            return  # parents may be among the rest
        with self.rebuild.catalog.begin() as tx:
            while orphans := tx.rebuild.remove_orphans(self.id):
                for orphan in orphans:
                    self._find(Damage.NO_IMAGE, f" image {orphan}", "its parent is missing")
                self.rebuild.result.counts["v1_images"] -= len(orphans)

    def _add_manifests(self) -> None:
        names = self.rebuild.understood(self.rebuild.names.manifests(self.name))
        for batch in self.rebuild.batches(names, _MANIFESTS):
            self._record([(name, manifest) for name in batch if (manifest := self._read(name))])
        self._adopt_entries()

    def _record(self, read: Sequence[_Read]) -> None:
        with self.rebuild.catalog.begin() as tx:
            tx.rebuild.add_manifests(self.id, self._resolved(tx, read))
        self._count("manifests", len(read))

    def _adopt_entries(self) -> None:
        """Adopt what indexes list: a manifest in an index cannot be deleted, so it was one."""
        seen = set[Digest]()
        while True:
            with self.rebuild.catalog.read() as tx:
                entries = tx.rebuild.entries_without_manifest(self.id)
            names = [ManifestName(digest, at) for digest, at in entries.items() if digest not in seen]
            if not names or self.rebuild.stop.is_set():
                return
            seen |= entries.keys()
            self._adopt(names)

    def _adopt(self, names: Iterable[ManifestName]) -> None:
        """Record manifests that are in use, but have no link: a copy is older in some folders than in others.

        Blobs that are no manifests are left alone, since an index may list them too.
        """
        for batch in self.rebuild.batches(names, _MANIFESTS):
            read = list[_Read]()
            for name in batch:
                try:
                    read.append((name, read_manifest(self.rebuild.store, name)))
                except StoreUnavailable:
                    raise
                except (BlobMissing, OSError, ManifestInvalid):
                    continue
            with self.rebuild.catalog.begin() as tx:
                tx.rebuild.link(self.id, {name.digest: name.at for name, _ in read})
            for name, _ in read:
                self._find(Damage.NO_LINK, f"@{name.digest}", "it was not linked as a manifest")
            self._record(read)

    def _resolved(self, tx: Transaction, read: Sequence[_Read]) -> list[FoundManifest]:
        """Return manifests with those of their children that the repository has."""
        required = {
            child.descriptor.digest
            for _, manifest in read
            for child in manifest.required
            if child.role is not Role.MANIFEST and not self.upstream
        }
        named = {child.descriptor.digest for _, manifest in read for child in manifest.children}
        held = self._held(tx, required | {name.signed for name, _ in read if name.signed})
        entries = {child.descriptor.digest for _, manifest in read for child in manifest.entries}
        if not (self.rebuild.sparse or self.upstream):
            self._held(tx, {*tx.blobs.sizes(entries)})
        held |= tx.blobs.linked(self.id, named).keys()
        images = tx.rebuild.known_images(self.id, {name.views[V1] for name, _ in read if V1 in name.views})
        return [
            FoundManifest(
                manifest,
                name.at,
                [child for child in manifest.children if child.descriptor.digest in held],
                [
                    child
                    for child in (manifest.children if self.upstream else manifest.entries)
                    if child.descriptor.digest not in held
                ],
                name.signed if name.signed in held else None,
                {kind: view for kind, view in name.views.items() if kind != V1 or view in images},
            )
            for name, manifest in read
        ]

    def _recognize(self) -> None:
        """Record which manifests were made of V1 images, where the tree does not say it."""
        recognition = self.rebuild.recognition
        if recognition is None:
            return
        with self.rebuild.catalog.read() as tx:
            images = tx.rebuild.unseen_images(self.id)
        for image in images:
            if self.rebuild.stop.is_set():
                return
            try:
                self.recognized |= {*recognition.recognize(RepositoryRow(self.id, self.name), image)}
            except StoreUnavailable:
                raise
            except (RegistryError, BlobMissing, OSError):
                continue

    def _add_tags(self) -> None:
        tags = self.rebuild.understood(self.rebuild.names.tags(self.name))
        for batch in self.rebuild.batches(tags, _BATCH):
            self._adopt_tagged(batch)
            if self.rebuild.stop.is_set():
                return  # not all were adopted
            with self.rebuild.catalog.begin() as tx:
                known = tx.manifests.lock_existing(self.id, {tag.digest for tag in batch})
                found = [tag for tag in batch if tag.digest in known]
                tx.rebuild.add_tags(self.id, [tag_row(tag, self._origin(tag)) for tag in found])
            for tag in batch:
                if tag.digest not in known:
                    self._find(Damage.DANGLING, f":{tag.tag}", f"the repository does not have {tag.digest}")
            self._count("tags", len(found))

    def _adopt_tagged(self, tags: Sequence[TagName]) -> None:
        """Adopt manifests that tags point at."""
        with self.rebuild.catalog.read() as tx:
            known = self.lost | tx.manifests.lock_existing(self.id, {tag.digest for tag in tags})
        times = {tag.digest: tag.at for tag in tags if tag.digest not in known}
        if times and self.id:
            self._adopt(ManifestName(digest, at) for digest, at in times.items())
            self._adopt_entries()
            self._recognize()

    def _origin(self, tag: TagName) -> Origin:
        """Return by which generation a tag was pushed, if the tree does not say."""
        return Origin.V1 if tag.digest in self.recognized else Origin.V2

    def _read(self, name: ManifestName) -> Manifest | None:
        """Return a manifest; None: it is a finding."""
        try:
            return read_manifest(self.rebuild.store, name)
        except BlobMissing:
            if name.digest not in self.lost:
                self._find(Damage.NO_MANIFEST, f"@{name.digest}", "the store does not have it")
        except StoreUnavailable:
            raise
        except (OSError, ManifestInvalid) as error:
            self._find(Damage.CORRUPT, f"@{name.digest}", str(error))
        return None

    def _held(self, tx: Transaction, digests: set[Digest]) -> set[Digest]:
        """Return which of *digests* the repository may read: those it needs, if the store has them."""
        absent = digests - tx.blobs.linked(self.id, digests).keys()
        missing = tx.rebuild.link(self.id, dict.fromkeys(absent, tx.now)) if self.id else absent
        for digest in sorted(absent - missing):
            self._find(Damage.NO_LINK, f"@{digest}", "it was not linked, but is in use")
        self._lose(missing - {empty_layer().digest})
        return digests - missing

    def _lose(self, missing: Iterable[Digest]) -> None:
        """Note that the store does not have what the repository should, once."""
        for digest in sorted(set(missing) - self.lost):
            self._find(Damage.NO_BLOB, f"@{digest}", "the store does not have it")
            self.lost.add(digest)

    def _find(self, kind: Damage, where: str, text: str) -> None:
        self.rebuild.find(kind, f"{self.name}{where}", text)

    def _count(self, what: str, count: int) -> None:
        self.rebuild.result.counts[what] += count
        self.rebuild.advance(0, count)


def _place(name: str) -> tuple[str, ...]:
    """Return by what ``Names.repositories`` orders: by the names of folders, each before those in it."""
    return tuple(f"{component}/" for component in name.split("/"))
