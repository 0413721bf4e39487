"""Import of V1 images, base first; tags are pointed at manifests made of them, as after a V1 push."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageExists
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.tarsum import is_tarsum
from dualreg.image.v1_image import V1Image
from dualreg.migrate.base import CurrentManifest, journal_tag_update, pushed_at, require_unchanged
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.journal import Journal, LayerFacts
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.v1.duplicates import duplicate_image
from dualreg.migrate.v1.identity import ImageIdentity, id_collision
from dualreg.migrate.v1.layers import staged
from dualreg.registry import Registry
from dualreg.registry.bridge import non_empty
from dualreg.registry.v1_imported import ImportedImage
from dualreg.storage.staging import Staging


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
    known: dict[str, LayerFacts] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    agent: Callable[[str, str], str] = lambda *_: ""
    _imported: set[tuple[RepositoryName, str]] = field(default_factory=set)
    _identity: ImageIdentity = field(init=False)
    _presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        self._identity, self._presence = ImageIdentity(self.registry), Presence(self.registry)

    def is_same(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        return current.v1_image == image and self._identity.all_present(repository, self.chain(image))

    def is_complete(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        rows = self.registry.v1_images.peek_ancestry(repository, ImageId(image))
        if not all(row.checksum for row in rows):
            return False  # derived from a manifest: clients get the JSONs and layers of the source instead
        complete = self._presence.blobs(self._identity.blobs(repository, self.chain(image)))
        return complete and self._presence.manifest(repository, current.digest)

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        image = ImageId.parse(entry.image)
        read = 0
        for member in self.chain(image):
            self.stop.check()
            read += self._image(repository, member)
        if tag:
            known = self.registry.bridge.manifest_of(repository, image)
            journal_tag_update(self.journal, entry, before, made=known is None)
            lost = known is not None and not self._presence.manifest(repository, known)
            self._point(entry, repository, tag, before, remake=lost)
        return read

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

    def _image(self, repository: RepositoryName, source: SourceImage) -> int:
        """Import one image, unless another thread has; return how many bytes were read for it.

        Raises:
            Broken: its layer contradicts its checksums, or the repository has another image of this ID.
        """
        if self.strict and source.marked:
            raise Broken(FindingKind.STALE_MARK, source.id, "marked as being pushed")
        with self.locks.lock(source.id):
            if (repository, source.id) in self._imported:
                return 0
            read = self._import_once(repository, source)
            self._imported.add((repository, source.id))
            return read

    def _import_once(self, repository: RepositoryName, source: SourceImage) -> int:
        facts = self._known_facts(source)
        if facts and self._is_present(repository, source, facts):
            return 0
        if facts and self._is_stored(facts):
            self._record(repository, source, facts, None)
            return 0
        with staged(self.registry.uploads, source, self.link, self.stop.check_room) as layer:
            self._record(repository, source, layer.facts, layer.bytes)
            self.known[source.id] = layer.facts
        return layer.facts.size

    def _known_facts(self, source: SourceImage) -> LayerFacts | None:
        """Return the facts of a layer that was read before, if its file has not changed since."""
        facts = self.known.get(source.id)
        if facts is None or facts.json != str(Digest.of(source.json())):
            return None
        unchanged = source.layer.size in (0, facts.size) and source.layer.changed == facts.mtime
        return facts if unchanged else None

    def _is_present(self, repository: RepositoryName, source: SourceImage, facts: LayerFacts) -> bool:
        """Return whether the repository has the image, and the store its JSON and layer."""
        row = self.registry.v1_images.peek(repository, source.id)
        if row is None or not row.complete:
            return False
        same = (str(row.json), str(row.layer)) == (facts.json, facts.layer)
        return same and self._presence.blobs([BlobRow(row.json, len(source.json())), facts.blob])

    def _is_stored(self, facts: LayerFacts) -> bool:
        blob = facts.blob
        return self.registry.blobs.find_anywhere(blob.digest) is not None and self._presence.blobs([blob])

    def _record(
        self, repository: RepositoryName, source: SourceImage, facts: LayerFacts, layer: Staging | None
    ) -> None:
        """Journal and record the image.

        Args:
            layer: The bytes of its layer; None: the store has them.

        Raises:
            Broken: the repository has another image of this ID.
        """
        json = source.json()
        if str(Digest.of(json)) != facts.json:
            raise Broken(FindingKind.CORRUPT, source.id, "JSON changed while it was being read")
        self.journal.write("image", repository=repository, id=source.id, **asdict(facts))
        try:
            self.registry.v1_images.import_image(repository, _image(source, json, facts), layer)
        except ImageExists as error:
            raise id_collision(repository, source.id) from error


def _image(source: SourceImage, json: bytes, facts: LayerFacts) -> ImportedImage:
    """Return the image as the registry records it; a stated TarSum is kept, as after a push."""
    checksums = source.checksums
    tarsum = next(filter(is_tarsum, checksums), None)
    proven = facts.checksum in checksums  # so the TarSum was not verified
    return ImportedImage(
        V1Image(source.id, source.parent, json),
        facts.blob,
        Digest.parse(facts.diff_id),
        Digest.parse(facts.checksum),
        tarsum=tarsum,
        tarsum_verified=facts.verified if tarsum and not proven else None,
    )
