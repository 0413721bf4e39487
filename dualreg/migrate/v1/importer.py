"""Intake of V1 images: each with its layer once, base first; the tag is set as a V1 push sets it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from threading import Event

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageExists
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.tarsum import is_tarsum
from dualreg.image.v1_image import V1Image
from dualreg.migrate.base import CurrentManifest, Stopped
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.importer import journal_tag_update, pushed_at, require_unchanged
from dualreg.migrate.journal import Journal, LayerFacts
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.v1.duplicates import duplicate_image
from dualreg.migrate.v1.identity import ImageIdentity, id_collision
from dualreg.migrate.v1.layers import staged
from dualreg.registry import Registry
from dualreg.registry.bridge import non_empty
from dualreg.registry.v1_images import ImportedImage
from dualreg.storage.staging import Staging

#: Letters that are kept of what a client calls itself.
_AGENT_LIMIT = 255


@dataclass
class V1Importer:
    """An Intake of V1 images.

    Attributes:
        chain: Returns an image and its ancestors, base first; raises Broken.
        strict: Refuse images that are marked as being pushed, whole or not.
        known: What earlier runs found out of layers.
        stop: Ends it between two images.
        agent: Returns what the client called itself that pushed a tag there; empty if nobody knows.
    """

    registry: Registry
    chain: Callable[[str], list[SourceImage]]
    journal: Journal
    way: LinkMode = LinkMode.AUTO
    strict: bool = False
    known: dict[str, LayerFacts] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    agent: Callable[[str, str], str] = lambda *_: ""
    _held: set[tuple[RepositoryName, str]] = field(default_factory=set)
    _same: ImageIdentity = field(init=False)
    _store: Presence = field(init=False)

    def __post_init__(self) -> None:
        """Nothing was compared yet."""
        self._same, self._store = ImageIdentity(self.registry), Presence(self.registry)

    def is_same(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        """See Intake."""
        return here.seen == image and self._same.are_here(repository, self.chain(image))

    def is_complete(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        """See Intake."""
        del here
        return self._store.blobs(self._same.blobs(repository, self.chain(image)))

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        """See Intake."""
        image = ImageId.parse(entry.image)
        read = 0
        for member in self.chain(image):
            if self.stop.is_set():
                raise Stopped
            read += self._image(repository, member)
        if tag:
            made = self.registry.bridge.manifest_of(repository, image) is None
            journal_tag_update(self.journal, entry, before, made=made)
            self._point(entry, repository, tag, before)
        return read

    def _point(
        self, entry: Entry, repository: RepositoryName, tag: Tag, before: CurrentManifest | None
    ) -> None:
        """Set an entry's tag, and note who had pushed it.

        Raises:
            Broken: an image like this one, but for its id, is here.
        """
        image, condition, at = ImageId.parse(entry.image), require_unchanged(entry, before), pushed_at(entry)
        rows = self.registry.v1_images.ancestry(repository, image)
        files = hash(tuple(row.diff_id for row in non_empty(rows)))
        try:
            with self.locks.lock((repository, files)):  # two tags may become the same manifest
                self.registry.bridge.tag(
                    repository, tag, image, condition=condition, at=at, refuse_duplicate=True
                )
        except ImageExists as error:
            raise duplicate_image(image, error.id) from error
        if agent := self.agent(entry.repository, entry.tag):
            self.registry.tags.record_pusher(repository, tag, agent[:_AGENT_LIMIT])

    def _image(self, repository: RepositoryName, source: SourceImage) -> int:
        """Take in one image, once at a time; return how many bytes were read for it.

        Raises:
            Broken: it is not what was stated of it, or another image has its id here.
        """
        if self.strict and source.marked:
            raise Broken(FindingKind.STALE_MARK, source.id, "marked as being pushed")
        with self.locks.lock(source.id):
            if (repository, source.id) in self._held:
                return 0
            read = self._bring(repository, source)
            self._held.add((repository, source.id))
            return read

    def _bring(self, repository: RepositoryName, source: SourceImage) -> int:
        facts = self._facts(source)
        if facts and self._is_held(repository, source, facts):
            return 0
        if facts and self._is_stored(facts):
            self._admit(repository, source, facts, None)
            return 0
        with staged(self.registry.uploads, source, self.way) as layer:
            self._admit(repository, source, layer.facts, layer.bytes)
            self.known[source.id] = layer.facts
        return layer.facts.size

    def _facts(self, source: SourceImage) -> LayerFacts | None:
        """Return what is known of the layer, if its file is still the one that was read."""
        facts = self.known.get(source.id)
        if facts is None or facts.json != str(Digest.of(source.json())):
            return None
        same = source.layer.size in (0, facts.size) and source.layer.changed == facts.mtime
        return facts if same else None

    def _is_held(self, repository: RepositoryName, source: SourceImage, facts: LayerFacts) -> bool:
        held = self.registry.v1_images.peek(repository, source.id)
        if held is None or not held.complete:
            return False
        same = (str(held.json), str(held.layer)) == (facts.json, facts.layer)
        return same and self._store.blobs([BlobRow(held.json, len(source.json())), facts.blob])

    def _is_stored(self, facts: LayerFacts) -> bool:
        blob = facts.blob
        return self.registry.blobs.find_anywhere(blob.digest) is not None and self._store.blobs([blob])

    def _admit(
        self, repository: RepositoryName, source: SourceImage, facts: LayerFacts, layer: Staging | None
    ) -> None:
        """Record the image, complete, with its layer: a staged one, or one that is in the store.

        Raises:
            Broken: another image has its id here.
        """
        json = source.json()
        if str(Digest.of(json)) != facts.json:
            raise Broken(FindingKind.CORRUPT, source.id, "its JSON changed while it was read")
        self.journal.write("image", repository=repository, id=source.id, **asdict(facts))
        try:
            self.registry.v1_images.import_image(repository, _image(source, json, facts), layer)
        except ImageExists as error:
            raise id_collision(repository, source.id) from error


def _image(source: SourceImage, json: bytes, facts: LayerFacts) -> ImportedImage:
    """Return the catalog's form of an image; a stated TarSum is kept as of one that was pushed."""
    checksums = source.checksums
    tarsum = next(filter(is_tarsum, checksums), None)
    proven = facts.checksum in checksums  # then the TarSum was not looked at
    return ImportedImage(
        V1Image(source.id, source.parent, json),
        facts.blob,
        Digest.parse(facts.diff_id),
        Digest.parse(facts.checksum),
        tarsum=tarsum,
        tarsum_verified=facts.verified if tarsum and not proven else None,
    )
