"""Import of single V1 images: each layer is read once, and not again by later runs."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageExists
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.image.tarsum import is_tarsum
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.journal import Journal, LayerFacts
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.v1.identity import id_collision
from dualreg.migrate.v1.layers import read_layer, staged
from dualreg.registry import Registry
from dualreg.registry.v1_imported import ImportedImage
from dualreg.storage.staging import Staging


@dataclass
class ImageImporter:
    """Imports V1 images; their parents must have been imported before.

    Attributes:
        link: How layers get into the store.
        known: The facts of layers that earlier runs read, by image ID; more are added.
        stop: Says whether there is room for more.
        strict: Whether to refuse images that are marked as being pushed, even if they are complete.
    """

    registry: Registry
    journal: Journal
    link: LinkMode = LinkMode.AUTO
    known: dict[str, LayerFacts] = field(default_factory=dict)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    stop: Stop = field(default_factory=Stop)
    strict: bool = False
    _imported: set[tuple[RepositoryName, str]] = field(default_factory=set)
    _presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        self._presence = Presence(self.registry)

    def add(self, repository: RepositoryName, source: SourceImage) -> int:
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
        if self._has_layer(source):
            self.known[source.id] = facts = read_layer(source)
            self._record(repository, source, facts, None)
            return facts.size
        with staged(self.registry.uploads, source, self.link, self.stop.check_room) as layer:
            self._record(repository, source, layer.facts, layer.bytes)
            self.known[source.id] = layer.facts
        return layer.facts.size

    def _has_layer(self, source: SourceImage) -> bool:
        """Return whether the store has the layer, or the source's is in the store, if its digest is known."""
        if source.recorded is None:
            return False
        blobs, digest = self.registry.blobs, source.recorded.layer
        if source.layer.path and blobs.keeps(Path(source.layer.path), digest):
            return True
        found = blobs.find_anywhere(digest)
        return found is not None and self._presence.blobs([found])

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
    document, diff_id = V1Image(source.id, source.parent, json), Digest.parse(facts.diff_id)
    if known := source.recorded:
        return ImportedImage(
            document, facts.blob, diff_id, known.checksum, known.tarsum, known.tarsum_verified
        )
    tarsum = next(filter(is_tarsum, source.checksums), None)
    proven = facts.checksum in source.checksums  # so the TarSum was not verified
    verified = facts.verified if tarsum and not proven else None
    return ImportedImage(document, facts.blob, diff_id, Digest.parse(facts.checksum), tarsum, verified)
