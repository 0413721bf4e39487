"""Import of single V1 images: each layer is read once, and not again by later runs."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageExists
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.image.tarsum import is_tarsum
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.journal import Journal
from dualreg.migrate.layer_facts import KnownLayers, LayerFacts
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceBytes, SourceImage
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LARGE, LinkMode
from dualreg.migrate.v1.identity import id_collision
from dualreg.migrate.v1.layers import read_layer, staged
from dualreg.registry import Registry
from dualreg.registry.state import STEP
from dualreg.registry.v1_imported import ImportedImage
from dualreg.storage.staging import Staging

#: Files of an image: its JSON, its layer, and the links of both and of itself.
_FILES = 5


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
    known: KnownLayers = field(default_factory=KnownLayers)
    locks: KeyedLocks = field(default_factory=KeyedLocks)
    stop: Stop = field(default_factory=Stop)
    strict: bool = False
    _imported: set[tuple[RepositoryName, str]] = field(default_factory=set)
    _presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        self._presence = Presence(self.registry)

    def add(self, repository: RepositoryName, chain: Iterable[SourceImage]) -> int:
        """Import images, base first, unless another thread has; return how many bytes were read for them.

        A few small ones are recorded at once; a large one right away, since a run that is killed before would
        have to read it again.

        Raises:
            Broken: a layer contradicts its checksums, or the repository has another image of an ID. Those
                before it are imported.
        """
        read, waiting = 0, [*chain][::-1]
        while waiting:
            with _Group() as group:
                try:
                    while waiting and not group.is_full and self._prepare(group, repository, waiting[-1]):
                        waiting.pop()
                finally:
                    self._record(repository, group.images)
            read += group.read
        return read

    def _prepare(self, group: "_Group", repository: RepositoryName, source: SourceImage) -> bool:
        """Add an image to a group, read if need be, unless the repository has it.

        Return False if another thread is reading it: the group has to be recorded before that is waited for.
        """
        self.stop.check()
        if self.strict and source.marked:
            raise Broken(FindingKind.STALE_MARK, source.id, "marked as being pushed")
        if self._is_settled(group, repository, source):
            return True
        if not group.hold(self.locks.lock(source.id)):
            return False
        if not self._is_settled(group, repository, source):  # another thread may have read it meanwhile
            self._read(group, source)
        return True

    def _is_settled(self, group: "_Group", repository: RepositoryName, source: SourceImage) -> bool:
        """Return whether an image need not be read; add it to a group, unless the repository has it."""
        if (repository, source.id) in self._imported:
            return True
        facts = self.known_facts(source)
        if facts and self._is_present(repository, source, facts):
            self._imported.add((repository, source.id))
            return True
        if facts and self._presence.find(facts.blob.digest) == facts.blob:
            group.images.append(_Prepared(imported_image(source, facts), facts, None, is_read=False))
            return True
        return False

    def _read(self, group: "_Group", source: SourceImage) -> None:
        """Read an image, and add it to a group."""
        if source.left_out:
            facts, layer = read_layer(self._with_own_layer(source)), None
        elif self._has_layer(source):
            facts, layer = read_layer(source), None
        else:
            found = group.enter_context(
                staged(self.registry.uploads, source, self.link, self.stop.check_room)
            )
            facts, layer = found.facts, found.bytes
        group.images.append(_Prepared(imported_image(source, facts), facts, layer))

    def _has_layer(self, source: SourceImage) -> bool:
        """Return whether the store has the layer, or the source's is in the store, if its digest is known."""
        if source.recorded is None:
            return False
        digest = source.recorded.layer
        if source.layer.path and self.registry.blobs.keeps(Path(source.layer.path), digest):
            return True
        return self._presence.find(digest) is not None

    def _with_own_layer(self, source: SourceImage) -> SourceImage:
        """Return an image with the layer that the store has.

        Raises:
            Broken: it has none.
        """
        known = self._presence.find(source.recorded.layer) if source.recorded else None
        if known is None:
            text = "its layer was left out, as the registry that it is for had it"
            raise Broken(FindingKind.UNREADABLE, source.id, text)
        open_own = partial(self.registry.blobs.open, known.digest)
        return replace(source, layer=SourceBytes(known.size, open_own, changed=source.layer.changed))

    def known_facts(self, source: SourceImage) -> LayerFacts | None:
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

    def _record(self, repository: RepositoryName, images: Sequence["_Prepared"]) -> None:
        """Journal and record images.

        Raises:
            Broken: the repository has another image of an ID.
        """
        if not images:
            return
        steps = ({"repository": repository, "id": each.id, **asdict(each.facts)} for each in images)
        self.journal.write_all("image", steps)
        try:
            self.registry.v1_images.import_images(repository, [(each.image, each.layer) for each in images])
        except ImageExists as error:
            before = [each.id for each in images].index(error.id)
            self._record(repository, images[:before])
            raise id_collision(repository, error.id) from error
        self.known.update((each.id, each.facts) for each in images)
        self._imported.update((repository, each.id) for each in images)


class _Prepared(NamedTuple):
    """An image that is ready to be recorded.

    Attributes:
        layer: The bytes of its layer; None: the store has them.
        is_read: Whether that layer was read now.
    """

    image: ImportedImage
    facts: LayerFacts
    layer: Staging | None
    is_read: bool = True

    @property
    def id(self) -> str:
        return self.image.document.id


class _Group(ExitStack):
    """Images that are recorded in one transaction, with locks and staged layers of those that were read."""

    def __init__(self) -> None:
        super().__init__()
        self.images = list[_Prepared]()
        self._holds = False

    @property
    def read(self) -> int:
        """How many bytes were read."""
        return sum(each.facts.size for each in self.images if each.is_read)

    @property
    def is_full(self) -> bool:
        """Whether a transaction writes no more, or so much was read that it should be recorded."""
        return len(self.images) >= STEP // _FILES or self.read > LARGE

    def hold(self, lock: Lock) -> bool:
        """Hold a lock until the images are recorded; return False if another thread does, and this holds one.

        So threads do not wait in a circle, whatever the order of their images.
        """
        held = lock.acquire(blocking=not self._holds)
        if held:
            self.callback(lock.release)
            self._holds = True
        return held


def imported_image(source: SourceImage, facts: LayerFacts) -> ImportedImage:
    """Return the image as the registry records it; a stated TarSum is kept, as after a push.

    Raises:
        Broken: its JSON is not the one that was read with its layer.
    """
    json = source.json()
    if str(Digest.of(json)) != facts.json:
        raise Broken(FindingKind.CORRUPT, source.id, "JSON changed while it was being read")
    document, diff_id = V1Image(source.id, source.parent, json), Digest.parse(facts.diff_id)
    if known := source.recorded:
        return ImportedImage(
            document, facts.blob, diff_id, known.checksum, known.tarsum, known.tarsum_verified
        )
    tarsum = next(filter(is_tarsum, source.checksums), None)
    proven = facts.checksum in source.checksums  # so the TarSum was not verified
    verified = facts.verified if tarsum and not proven else None
    return ImportedImage(document, facts.blob, diff_id, Digest.parse(facts.checksum), tarsum, verified)
