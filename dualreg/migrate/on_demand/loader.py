"""Loader: imports one image while a client waits for it, each image once, and only so many at a time."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore, Lock

from cachetools import TTLCache

from dualreg.acting import Api, acting
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError, SourceBusy
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.messages import safe_line
from dualreg.migrate.base import current_manifest
from dualreg.migrate.findings import Broken
from dualreg.migrate.journal import Journal
from dualreg.migrate.layer_facts import KnownLayers
from dualreg.migrate.on_demand.trees import OnDemandSource
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Run, Status
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import is_output_error
from dualreg.registry import Registry
from dualreg.waiting import Budget

_log = logging.getLogger(__name__)
#: How many seconds a failed import is not tried again, and how many failures are remembered.
_FAILURE_TTL = 60
_FAILURE_LIMIT = 1000
#: How many V1 layers are remembered as read.
_KNOWN_LAYERS = 20_000
#: After how many seconds a refused client may retry.
_RETRY_AFTER = 10


@dataclass
class Loader:
    """Imports the images that requests ask for; successes are journaled, failures logged.

    Attributes:
        registry: The registry to import into, without an upstream.
        source: The name of the source.
        folder: The folder of the journal, which is created for the first image.
        at_once: How many requests may import an image, or wait for one that another request imports.
        require: Called before and during each import; raises OSError if nothing may be added.
        on_import: Called with the facts of each imported image, for the audit log.
        budget: The threads that may do so, of which other work has some; None: any.
    """

    registry: Registry
    source: str
    folder: Path
    at_once: int = 1
    on_import: Callable[..., None] = lambda **_: None
    require: Callable[[], None] = lambda: None
    budget: Budget | None = None
    _journal: Journal | None = None
    # A set that forgets, not the results of a function, so cachedmethod does not fit.
    _failed: TTLCache[tuple[str, str], bool] = field(
        default_factory=lambda: TTLCache(_FAILURE_LIMIT, _FAILURE_TTL)
    )
    _known_layers: KnownLayers = field(default_factory=KnownLayers)
    _blob_locks: KeyedLocks = field(default_factory=KeyedLocks)
    _image_locks: KeyedLocks = field(default_factory=KeyedLocks)
    _lock: Lock = field(default_factory=Lock)
    _slots: BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = BoundedSemaphore(self.at_once)

    def load(self, tree: OnDemandSource, entry: Entry) -> bool:
        """Import the tag or manifest of *entry*; return whether the registry has it now.

        Raises:
            SourceBusy: too many images are being imported.
        """
        repository = RepositoryName(entry.to_repository)
        reference = Tag(entry.to_tag) if entry.to_tag else Digest.parse(entry.image)

        def is_present() -> bool:
            return current_manifest(self.registry, repository, reference) is not None

        def import_it() -> str:
            run = self._run(tree)
            with acting(self.source, Api.IMPORT):
                outcome = run.import_one(entry)
            if outcome.status is Status.DONE:
                run.record(outcome)
                self._report(entry)
            return outcome.reason if outcome.status is Status.FAILED else ""

        return self._load_once((repository, str(reference)), is_present, import_it)

    def load_image(self, tree: OnDemandSource, entry: Entry) -> bool:
        """Import the V1 image of *entry* with its ancestors; as ``load``."""
        repository, image = RepositoryName(entry.to_repository), ImageId(entry.image)

        def is_present() -> bool:
            return self.registry.v1_images.peek(repository, image) is not None

        def import_it() -> str:
            try:
                self._run(tree).importer.import_entry(entry, repository, None, None)
            except (Broken, RegistryError, BlobDamaged, BlobMissing) as error:
                return str(error)
            self._report(entry)
            return ""

        return self._load_once((repository, image), is_present, import_it)

    def _load_once(
        self, name: tuple[str, str], is_present: Callable[[], bool], import_it: Callable[[], str]
    ) -> bool:
        """Import what *name* means, unless another request does; return whether the registry has it now.

        Args:
            name: The repository, and a tag, digest or V1 image ID.
            import_it: Returns why it failed; empty: it did not.
        """
        if is_present():
            return True
        if self._failed_recently(name):
            return False
        with self._slot(), self._image_locks.lock(name):
            if is_present() or self._failed_recently(name):
                return is_present()
            try:
                reason = import_it()
            except OSError as error:
                if is_output_error(error):  # such as of the journal's folder
                    raise
                reason = str(error)
            if reason:
                self._fail(name, reason)
        return is_present()

    def reject(self, repository: RepositoryName, reference: Tag | Digest, reason: str) -> None:
        """Log why a tag or manifest of the tree cannot be imported, unless that was done lately."""
        name = repository, str(reference)
        if not self._failed_recently(name):
            self._fail(name, reason)

    def _fail(self, name: tuple[str, str], reason: str) -> None:
        facts = (*name[::-1], self.source, safe_line(reason))
        _log.warning("failed to import %s of %s from %s: %s", *facts)
        with self._lock:
            self._failed[name] = True

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Occupy one of the slots for the block.

        Raises:
            SourceBusy: none is free. Waiting would take threads from clients that need no import.
        """
        with ExitStack() as held:
            if not self._slots.acquire(blocking=False):
                raise SourceBusy(retry_after=_RETRY_AFTER)
            held.callback(self._slots.release)
            if self.budget:
                if not self.budget.take(waits=True):
                    raise SourceBusy(retry_after=_RETRY_AFTER)
                held.callback(self.budget.give_back, waits=True)
            yield

    def _failed_recently(self, name: tuple[str, str]) -> bool:
        with self._lock:
            return name in self._failed

    def _report(self, entry: Entry) -> None:
        self.on_import(
            source=self.source, repository=entry.to_repository, tag=entry.to_tag or None, image=entry.image
        )

    def _run(self, tree: OnDemandSource) -> Run:
        """Return a run for one image; the first one starts the journal."""
        with self._lock:
            if len(self._known_layers) > _KNOWN_LAYERS:
                self._known_layers.clear()
            if self._journal is None:
                in_place = tree.is_store(self.registry.blobs.keeps)
                self._journal = Journal(
                    self.folder, self.registry.now(), self.source, in_place=in_place, on_demand=True
                )
            journal = self._journal
        stop = Stop(require=self.require)
        importer = tree.importer(self.registry, journal, self._known_layers, self._blob_locks, stop)
        return Run(self.registry, importer, journal, stop=stop)
