"""Run: the tags of a plan, taken in; layers once, tags last, every step in the journal before it is done."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from threading import Event, Lock
from typing import NamedTuple

from dualreg.catalog.rows import BlobRow, Origin, RepositoryRow, V1ImageRow
from dualreg.errors import RegistryError
from dualreg.faults import BlobDamaged, BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.reach import EVERYWHERE
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.journal import Journal, LayerFacts
from dualreg.migrate.layers import Staged, Way, staged
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.sources.v1_tree import SourceImage
from dualreg.migrate.survey import Survey
from dualreg.registry import Registry


class Existing(StrEnum):
    """What becomes of a tag that is here already, and is another image."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    FAIL = "fail"


class Status(StrEnum):
    """How it went with a tag."""

    DONE = "done"
    SAME = "same"
    SKIPPED = "skipped"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with an entry of the plan.

    Attributes:
        digest: Of the manifest that the tag points at, if it was taken in.
        read: Bytes of layers that were read for it.
    """

    entry: Entry
    status: Status
    reason: str = ""
    digest: str = ""
    read: int = 0


class _Pointed(NamedTuple):
    """The manifest of a tag, the V1 image that it is seen as, and the generation that pointed the tag."""

    digest: Digest
    seen: str | None
    origin: Origin | None


@dataclass
class Run:
    """Takes in a plan.

    Attributes:
        known: What earlier runs found out of layers.
        stop: Set from outside to end early; whatever is begun is finished first.
        told: Called with each outcome.
    """

    registry: Registry
    found: Survey
    journal: Journal
    way: Way = Way.AUTO
    existing: Existing = Existing.SKIP
    strict: bool = False
    known: dict[str, LayerFacts] = field(default_factory=dict)
    stop: Event = field(default_factory=Event)
    told: Callable[[Outcome], None] = lambda _: None
    _locks: dict[str, Lock] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Take in *entries*, *jobs* at a time; the outcomes are in the order of the plan."""
        with ThreadPoolExecutor(jobs) as pool:
            outcomes = [*pool.map(self._tell, entries)]
        self.journal.write("end", stopped=self.stop.is_set())
        return outcomes

    def _tell(self, entry: Entry) -> Outcome:
        try:
            outcome = self._one(entry)
        except BaseException:
            self.stop.set()  # such as a full disk, which would stop all others too
            raise
        self.journal.write(
            "tag",
            source=entry.name,
            repository=entry.to_repository,
            tag=entry.to_tag,
            image=entry.image,
            status=outcome.status,
            reason=outcome.reason,
            digest=outcome.digest,
        )
        self.told(outcome)
        return outcome

    def _one(self, entry: Entry) -> Outcome:
        if entry.action is Action.SKIP:
            return Outcome(entry, Status.SKIPPED, entry.reason)
        try:
            return self._take(entry, RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag))
        except Broken as error:
            return Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing) as error:
            return Outcome(entry, Status.FAILED, f"refused: {error}")

    def _take(self, entry: Entry, repository: RepositoryName, tag: Tag) -> Outcome:
        image = ImageId.parse(entry.image)
        before = self._current(repository, tag)
        if before is not None:
            if before.seen == image:
                return Outcome(entry, Status.SAME, digest=str(before.digest))
            if self.existing is not Existing.OVERWRITE:
                status = Status.SKIPPED if self.existing is Existing.SKIP else Status.FAILED
                return Outcome(entry, status, f"the tag is here already, as {before.digest}")
        read = 0
        for member in self.found.chain(image):
            if self.stop.is_set():
                return Outcome(entry, Status.STOPPED, "run again to go on")
            read += self._image(repository, member)
        self._point(repository, tag, image, before)
        after = self._current(repository, tag)
        return Outcome(entry, Status.DONE, digest=str(after.digest) if after else "", read=read)

    def _point(self, repository: RepositoryName, tag: Tag, image: ImageId, before: _Pointed | None) -> None:
        with self.registry.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            made = row is None or tx.views.manifest_of(row.id, image) is None
        self.journal.write(
            "pointing",
            repository=repository,
            tag=tag,
            image=image,
            before=str(before.digest) if before else "",
            origin=before.origin if before else "",
            made=made,
        )
        self.registry.bridge.tag(repository, tag, image)

    def _current(self, repository: RepositoryName, tag: Tag) -> _Pointed | None:
        """Return what the tag points at now."""
        with self.registry.state.catalog.read() as tx:
            row = tx.manifests.find(repository, tag)
            if row is None:
                return None
            return _Pointed(row.digest, tx.views.find(row.repository_id, row.digest), row.origin)

    def _image(self, repository: RepositoryName, source: SourceImage) -> int:
        """Take in one image, once at a time; return how many bytes were read for it.

        Raises:
            Broken: it is not what was stated of it, or another image has its id here.
        """
        if self.strict and source.marked:
            raise Broken(Kind.STALE_MARK, source.id, "marked as being pushed")
        with self._lock_of(source.id):
            facts = self._facts(source)
            if facts and self._is_held(repository, source, facts):
                return 0
            if facts and self._is_stored(facts):
                self._admit(repository, source, facts, None)
                return 0
            with staged(self.registry.state.store, source, self.way) as layer:
                self._admit(repository, source, layer.facts, layer)
                self.known[source.id] = layer.facts
            return source.size

    def _facts(self, source: SourceImage) -> LayerFacts | None:
        """Return what is known of the layer, if its file is still the one that was read."""
        facts = self.known.get(source.id)
        if facts is None or facts.json != str(Digest.of(source.json)):
            return None
        stat = source.layer.stat()
        return facts if (facts.size, facts.mtime) == (stat.st_size, stat.st_mtime_ns) else None

    def _is_held(self, repository: RepositoryName, source: SourceImage, facts: LayerFacts) -> bool:
        with self.registry.state.catalog.read() as tx:
            held = tx.v1_images.find(repository, source.id)
        return held is not None and held.complete and (str(held.json), str(held.layer)) == (
            facts.json, facts.layer,
        )  # fmt: skip

    def _is_stored(self, facts: LayerFacts) -> bool:
        with self.registry.state.catalog.read() as tx:
            return tx.blobs.owner(Digest.parse(facts.layer), EVERYWHERE) is not None

    def _admit(
        self, repository: RepositoryName, source: SourceImage, facts: LayerFacts, layer: Staged | None
    ) -> None:
        """Record the image, complete, with its layer: a staged one, or one that is in the store.

        Raises:
            Broken: another image has its id here.
        """
        state, json = self.registry.state, source.json
        if str(Digest.of(json)) != facts.json:
            raise Broken(Kind.CORRUPT, source.id, "its JSON changed while it was read")
        self.journal.write("image", repository=repository, id=source.id, **asdict(facts))
        with state.staged(json) as (document,), state.catalog.begin() as tx:
            row = tx.repositories.ensure(repository, exclusive=True)
            image = _row(row, source, facts)
            if tx.v1_images.contradicts(row.id, [image]):
                raise Broken(Kind.COLLISION, source.id, f"{repository} has another image of this id")
            state.admit(tx, row, document, BlobRow(Digest.of(json), len(json)))
            if layer:
                state.admit(tx, row, layer.upload, layer.blob)
            else:
                state.share(tx, row, BlobRow(Digest.parse(facts.layer), facts.size))
            self.registry.v1_images.record(tx, row, [image])

    def _lock_of(self, id_: str) -> Lock:
        with self._lock:
            return self._locks.setdefault(id_, Lock())


def _row(repository: RepositoryRow, source: SourceImage, facts: LayerFacts) -> V1ImageRow:
    return V1ImageRow(
        repository.id,
        source.id,
        source.parent,
        Digest.parse(facts.json),
        Digest.parse(facts.layer),
        facts.size,
        Digest.parse(facts.diff_id),
        Digest.parse(facts.checksum),
        complete=True,
    )
