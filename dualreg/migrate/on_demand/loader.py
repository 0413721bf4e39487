"""On request: one image is taken in while a client waits for it; each once, and only so many at a time."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore, Lock

from cachetools import TTLCache

from dualreg.errors import BlobDamaged, BlobMissing, RegistryError, SourceBusy
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.importer import current_manifest
from dualreg.migrate.journal import Journal, LayerFacts
from dualreg.migrate.on_demand.trees import OnDemandTree
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Run, Status
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.transfer import is_output_error
from dualreg.registry import Registry

_log = logging.getLogger(__name__)
#: Seconds for which what could not be taken in is not tried again, and of how many such things at most.
_PATIENCE = 60
_FAILURES = 1000
#: Layers of which it is remembered what reading them told.
_LAYERS = 20_000
#: After how many seconds a client may ask again that was sent away.
_RETRY_AFTER = 10


@dataclass
class Loader:
    """Takes in what requests ask for, and journals what was done; what was not, the log tells of.

    Attributes:
        registry: What it is taken into; without a legacy of its own.
        source: Its name.
        folder: For the journal, which is begun when the first image comes.
        at_once: How many requests may take in an image, or wait until another one has.
        told: Called with the facts of each image that was taken in.
    """

    registry: Registry
    source: str
    folder: Path
    at_once: int = 1
    on_import: Callable[..., None] = lambda **_: None
    _journal: Journal | None = None
    _failed: TTLCache[tuple[str, str], bool] = field(default_factory=lambda: TTLCache(_FAILURES, _PATIENCE))
    _known: dict[str, LayerFacts] = field(default_factory=dict)
    _parts: KeyedLocks = field(default_factory=KeyedLocks)
    _asked: KeyedLocks = field(default_factory=KeyedLocks)
    _lock: Lock = field(default_factory=Lock)
    _places: BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        """Count the requests."""
        self._places = BoundedSemaphore(self.at_once)

    def load(self, tree: OnDemandTree, entry: Entry) -> bool:
        """Take in the tag or manifest of *entry*; tell whether it is here then.

        Raises:
            SourceBusy.
        """
        repository = RepositoryName(entry.to_repository)
        reference = Tag(entry.to_tag) if entry.to_tag else Digest.parse(entry.image)

        def is_here() -> bool:
            return current_manifest(self.registry, repository, reference) is not None

        def take() -> str:
            run = self._run(tree)
            outcome = run.import_one(entry)
            if outcome.status is Status.DONE:
                run.record(outcome)
                self._tell(entry)
            return outcome.reason if outcome.status is Status.FAILED else ""

        return self._load_once((repository, str(reference)), is_here, take)

    def load_image(self, tree: OnDemandTree, entry: Entry) -> bool:
        """Take in the V1 image of *entry*, with its ancestors; as ``bring``."""
        repository, image = RepositoryName(entry.to_repository), ImageId(entry.image)

        def is_here() -> bool:
            return self.registry.v1_images.peek(repository, image) is not None

        def take() -> str:
            try:
                self._run(tree).importer.import_entry(entry, repository, None, None)
            except (Broken, RegistryError, BlobDamaged, BlobMissing) as error:
                return str(error)
            self._tell(entry)
            return ""

        return self._load_once((repository, image), is_here, take)

    def _load_once(
        self, thing: tuple[str, str], is_here: Callable[[], bool], take: Callable[[], str]
    ) -> bool:
        """Take in a thing, unless somebody else does meanwhile; tell whether it is here.

        Args:
            take: Returns why it failed; nothing, if it did not.
        """
        if is_here():
            return True
        if self._is_hopeless(thing):
            return False
        with self._place(), self._asked.lock(thing):
            if is_here() or self._is_hopeless(thing):
                return is_here()
            try:
                reason = take()
            except OSError as error:  # such as of our own folder of journals, which cannot be written
                if is_output_error(error):
                    raise
                reason = str(error)
            if reason:
                _log.warning("%s of %s cannot be taken in from %s: %s", *thing[::-1], self.source, reason)
                with self._lock:
                    self._failed[thing] = True
        return is_here()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take a place for the block.

        Raises:
            SourceBusy: there is none; nobody waits for one, since others want this thread.
        """
        if not self._places.acquire(blocking=False):
            raise SourceBusy(retry_after=_RETRY_AFTER)
        try:
            yield
        finally:
            self._places.release()

    def _is_hopeless(self, thing: tuple[str, str]) -> bool:
        with self._lock:
            return thing in self._failed

    def _tell(self, entry: Entry) -> None:
        self.on_import(
            source=self.source, repository=entry.to_repository, tag=entry.to_tag or None, image=entry.image
        )

    def _run(self, tree: OnDemandTree) -> Run:
        """Return what takes in one image; the journal is begun with the first."""
        with self._lock:
            if len(self._known) > _LAYERS:
                self._known.clear()
            if self._journal is None:
                in_place = tree.is_store(self.registry.blobs)
                self._journal = Journal(self.folder, self.registry.now(), self.source, in_place=in_place)
            own = self._journal
        return Run(self.registry, tree.importer(self.registry, own, self._known, self._parts), own)
