"""Live: a source that stays behind a running registry, and gives up an image when it is first asked for.

So names can be switched before everything is copied. Nothing is looked through: a miss costs a look for one
file. What was deleted here does not come back, unless it was pushed there again.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import cast

from cachetools import TTLCache

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin
from dualreg.errors import TagInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate import journal
from dualreg.migrate.findings import Broken
from dualreg.migrate.intake import Intake, Locks
from dualreg.migrate.journal import Journal, LayerFacts
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.run import Run, Status
from dualreg.migrate.sources.base import SourceImage, SourceTag
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_tree import V1Tree, is_image_id
from dualreg.migrate.v1.intake import V1Intake
from dualreg.migrate.v1.survey import V1Survey
from dualreg.migrate.v2.intake import V2Intake
from dualreg.registry import Registry

_log = logging.getLogger(__name__)
_LIBRARY = "library/"
#: Seconds for which what could not be taken in is not tried again, and a repository's images are remembered.
_PATIENCE = 60
_REMEMBERED = 1000


@dataclass
class LiveSource:
    """A Legacy over a tree.

    Attributes:
        registry: What it is taken into; without a legacy of its own.
        name: Of the source.
        folder: For the journal, which is begun when the first image is asked for.
    """

    registry: Registry
    source: V1Tree | RegistryTree
    name: str
    folder: Path
    _failed: TTLCache[tuple[str, str], bool] = field(init=False)
    _reachable: TTLCache[str, V1Survey] = field(init=False)
    _known: dict[str, LayerFacts] = field(default_factory=dict)
    _locks: Locks = field(default_factory=Locks)
    _lock: Lock = field(default_factory=Lock)
    _journal: Journal | None = None

    def __post_init__(self) -> None:
        """Remember nothing yet."""
        self._failed = TTLCache(_REMEMBERED, _PATIENCE)
        self._reachable = TTLCache(_REMEMBERED, _PATIENCE)

    @property
    def origin(self) -> Origin:
        """See Legacy."""
        return Origin.V1 if isinstance(self.source, V1Tree) else Origin.V2

    def bring(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        name, key = self._named(repository), (repository, str(reference))
        if name is None or self._is_hopeless(key):
            return False
        if isinstance(reference, Digest):
            if not isinstance(self.source, RegistryTree):
                return False
            entry = Entry(name, "", str(reference), repository, "", Action.IMPORT)
        else:
            found = self.source.tag(name, reference)
            if found is None:
                return False
            entry = _entry(found, repository)
        outcome = self._runner().one(entry)
        if outcome.status is Status.FAILED:
            self._give_up(key, outcome.reason)
        return outcome.status in (Status.DONE, Status.SAME)

    def bring_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """See Legacy."""
        name, key = self._named(repository), (repository, str(image))
        if name is None or not isinstance(self.source, V1Tree) or self._is_hopeless(key):
            return False
        if not self.source.has(image) or image not in self._images(name):
            return False
        entry = Entry(name, "", image, repository, "", Action.IMPORT)
        try:
            self._runner().intake.take(entry, repository, None, None)
        except Broken as error:
            self._give_up(key, str(error))
            return False
        return True

    def tags(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """See Legacy."""
        name = self._named(repository)
        if name is None:
            return {}
        found = {Tag(each.tag): each for each in self.source.tags_of(name) if _is_tag(each)}
        if found:
            with self.registry.state.catalog.read() as tx:
                forgotten = tx.forgotten.of(repository)
            found = {tag: each for tag, each in found.items() if not _is_past(each, forgotten.get(tag))}
        return {tag: each.image for tag, each in found.items()}

    def forget(self, tx: Transaction, repository: RepositoryName, tags: Iterable[Tag]) -> None:
        """See Legacy."""
        tx.forgotten.mark(repository, tags)

    def _named(self, repository: RepositoryName) -> str | None:
        """Return what a repository is called there; None: it cannot be."""
        if self.origin is Origin.V2:
            return repository
        if repository.startswith(_LIBRARY):
            return None  # it is here without that
        return repository if "/" in repository else _LIBRARY + repository

    def _runner(self) -> Run:
        """Return what takes in one image; the journal is begun with the first."""
        catalog = self.registry.state.catalog
        with self._lock:
            if self._journal is None:
                self._known = journal.known_layers(self.folder, self.name)
                here = self.registry.state.store
                in_place = isinstance(self.source, RegistryTree) and self.source.is_of(here)
                self._journal = Journal(self.folder, catalog.now(), self.name, in_place=in_place)
            own = self._journal
        intake: Intake
        if isinstance(self.source, V1Tree):
            intake = V1Intake(self.registry, self._chain, own, known=self._known, locks=self._locks)
        else:
            intake = V2Intake(self.registry, self.source, own, locks=self._locks)
        return Run(self.registry, intake, own)

    def _chain(self, id_: str) -> list[SourceImage]:
        found = V1Survey(cast("V1Tree", self.source))
        found.learn(id_)
        return found.chain(id_)

    def _images(self, name: str) -> Mapping[str, SourceImage]:
        """Return the images that the tags of a repository there lead to."""
        with self._lock:
            found = self._reachable.get(name)
        if found is None:
            found = V1Survey(cast("V1Tree", self.source))
            for tag in self.source.tags_of(name):
                found.learn(tag.image)
            with self._lock:
                self._reachable[name] = found
        return found.images

    def _is_hopeless(self, key: tuple[str, str]) -> bool:
        with self._lock:
            return key in self._failed

    def _give_up(self, key: tuple[str, str], reason: str) -> None:
        _log.warning("%s of %s cannot be taken in from %s: %s", key[1], key[0], self.name, reason)
        with self._lock:
            self._failed[key] = True


def _entry(found: SourceTag, repository: RepositoryName) -> Entry:
    return Entry(
        found.repository, found.tag, found.image, repository, found.tag, Action.IMPORT, updated=found.stamp
    )


def _is_tag(found: SourceTag) -> bool:
    try:
        Tag.parse(found.tag)
    except TagInvalid:
        return False
    return is_image_id(found.image) or ":" in found.image


def _is_past(found: SourceTag, deleted: datetime | None) -> bool:
    return deleted is not None and found.updated is not None and found.updated <= deleted
