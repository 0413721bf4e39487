"""Import of V1 images, base first; tags are pointed at manifests made of them, as after a V1 push."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dualreg.errors import ImageExists
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.base import (
    CurrentManifest,
    Imported,
    journal_tag_update,
    pushed_at,
    require_unchanged,
)
from dualreg.migrate.journal import Journal
from dualreg.migrate.layer_facts import KnownLayers
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.v1.duplicates import duplicate_image
from dualreg.migrate.v1.identity import ImageIdentity
from dualreg.migrate.v1.images import ImageImporter
from dualreg.migrate.v1.together import ImagesTogether
from dualreg.registry import Registry
from dualreg.registry.bridge import non_empty


@dataclass
class V1Importer:
    """An Importer of V1 images.

    Attributes:
        chain: Returns an image and its ancestors, base first; raises Broken.
        link: How layers get into the store.
        strict: Whether to refuse images that are marked as being pushed, even if they are complete.
        known: The facts of layers that earlier runs read, by image ID.
        stop: Says whether to go on.
        agent: Returns the User-Agent that pushed a tag of the source; empty if it is unknown.
    """

    registry: Registry
    chain: Callable[[str], list[SourceImage]]
    journal: Journal
    link: LinkMode = LinkMode.AUTO
    strict: bool = False
    known: KnownLayers = field(default_factory=KnownLayers)
    stop: Stop = field(default_factory=Stop)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    agent: Callable[[str, str], str] = lambda *_: ""
    _images: ImageImporter = field(init=False)
    _identity: ImageIdentity = field(init=False)
    _presence: Presence = field(init=False)
    _together: ImagesTogether = field(init=False)

    def __post_init__(self) -> None:
        self._images = ImageImporter(
            self.registry, self.journal, self.link, self.known, self.locks, self.stop, strict=self.strict
        )
        self._together = ImagesTogether(self._images, self.chain, self.agent)
        self._identity, self._presence = ImageIdentity(self.registry), Presence(self.registry)

    def is_same(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        return current.v1_image == image and self._identity.all_present(repository, self.chain(image))

    def is_complete(self, entry: Entry, repository: RepositoryName, current: CurrentManifest) -> bool:
        rows = self.registry.v1_images.peek_ancestry(repository, ImageId(entry.image))
        if not all(row.checksum for row in rows):
            return False  # derived from a manifest: clients get the JSONs and layers of the source instead
        complete = self._presence.blobs(self._identity.blobs(repository, self.chain(entry.image)))
        return complete and self._presence.manifest(repository, current.digest)

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        image = ImageId.parse(entry.image)
        read = self._images.add(repository, self.chain(image))
        if tag:
            known = self.registry.bridge.manifest_of(repository, image)
            journal_tag_update(self.journal, entry, before, made=known is None)
            lost = known is not None and not self._presence.manifest(repository, known)
            self._point(entry, repository, tag, before, remake=lost)
        return read

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        return self._together.import_new(entries)

    def _point(
        self,
        entry: Entry,
        repository: RepositoryName,
        tag: Tag,
        before: CurrentManifest | None,
        *,
        remake: bool,
    ) -> None:
        """Point an entry's tag at the manifest of its image, and record the User-Agent that had pushed it.

        Args:
            remake: Make the manifest again, since it is damaged, or something that it names.

        Raises:
            Broken: the repository has the same image under another ID.
        """
        image, condition, at = ImageId.parse(entry.image), require_unchanged(entry, before), pushed_at(entry)
        rows = self.registry.v1_images.ancestry(repository, image)
        files = hash(tuple(row.diff_id for row in non_empty(rows)))
        try:
            with self.locks.lock((repository, files)):  # two tags may become the same manifest
                if remake:
                    self.registry.bridge.remake(repository, image)
                self.registry.bridge.tag(
                    repository,
                    tag,
                    image,
                    condition=condition,
                    at=at,
                    agent=self.agent(entry.repository, entry.tag) or "",
                    refuse_duplicate=True,
                )
        except ImageExists as error:
            raise duplicate_image(image, error.id) from error
