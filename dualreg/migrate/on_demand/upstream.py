"""Live: a source that stays behind a running registry, and gives up an image when it is first asked for.

So names can be switched before everything is copied. Nothing is looked through: a miss costs a look for one
file. What was deleted here does not come back, unless it was pushed there again. While the source is away,
it has nothing.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from threading import Lock
from typing import TypeVar

from dualreg.catalog.database import Transaction
from dualreg.catalog.deletions import RepositoryDeletions
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import LIBRARY, ImageId, RepositoryName, Tag, in_library
from dualreg.migrate.on_demand.loader import Loader
from dualreg.migrate.on_demand.lookup import TreeLookup
from dualreg.migrate.on_demand.trees import OnDemandTree
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.sources.base import SourceInvalid, SourceTag
from dualreg.migrate.transfer import is_output_error
from dualreg.transports import Use, parse_location

_log = logging.getLogger(__name__)
T = TypeVar("T")
#: Seconds for which trouble with the source is told once.
_PATIENCE = 60


@dataclass
class TreeUpstream:
    """A Legacy over a tree.

    Attributes:
        intake: Takes in what is wanted.
        open: Opens the tree, when it is first asked; raises NoSource or OSError.
    """

    loader: Loader
    open: Callable[[], OnDemandTree]
    _lookup: TreeLookup | None = None
    _lock: Lock = field(default_factory=Lock)
    _complained: float | None = None

    @property
    def origin(self) -> Origin:
        """See Legacy."""
        return Origin(parse_location(self.loader.source, Use.ON_DEMAND).transport.generation)

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        return self._ask(lambda lookup: self._load(lookup, repository, reference), otherwise=False)

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """See Legacy."""
        return self._ask(lambda lookup: self._load_image(lookup, repository, image), otherwise=False)

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """See Legacy."""

        def load(lookup: TreeLookup) -> None:
            deleted = self.loader.registry.repositories.deleted_at(repository, subject)
            for found in lookup.referrers(self._named(repository) or "", subject):
                if not _is_past(found, deleted):
                    self._load(lookup, repository, Digest.parse(found.image))

        if self.origin is Origin.V2:
            self._ask(load, otherwise=None)

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        """See Legacy."""

        def list_tags(lookup: TreeLookup) -> Sequence[Tag]:
            tags, deleted = self._not_here(lookup, repository, last)
            if deleted.times:  # which is rare, and else nothing need be read
                left = (tag for tag, _ in self._left(lookup, repository, tags, deleted))
                return [*islice(left, limit)]
            return tags[:limit]

        return self._ask(list_tags, otherwise=())

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """See Legacy."""
        return self._ask(lambda lookup: dict(self._images(lookup, repository)), otherwise={})

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        wanted = self._ask(lambda lookup: self._wanted(lookup, repository, reference), otherwise=None)
        return wanted is not None

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        """See Legacy."""
        if references is None:
            tx.deletions.record_repository(repository)
        else:
            tx.deletions.record(repository, references)

    def _ask(self, question: Callable[[TreeLookup], T], otherwise: T) -> T:
        """Return the answer to a question; *otherwise*, if the source cannot be read now, which is logged."""
        try:
            return question(self._opened())
        except SourceInvalid as error:
            self._complain(error)
        except OSError as error:
            if is_output_error(error):  # for which the source is not to blame
                raise
            if error.errno != errno.ENAMETOOLONG:  # a name that cannot be there
                self._complain(error)
        return otherwise

    def _opened(self) -> TreeLookup:
        with self._lock:
            if self._lookup is None:
                self._lookup = TreeLookup(self.open())
            lookup = self._lookup
        lookup.check()
        return lookup

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if self._complained is None or now - self._complained >= _PATIENCE:
            self._complained = now
            _log.warning(
                "legacy_source %s cannot be read, and counts as empty: %s", self.loader.source, error
            )

    def _named(self, repository: RepositoryName) -> str | None:
        """Return what a repository is called there; None: it cannot be."""
        if self.origin is Origin.V2:
            return repository
        if repository.startswith(LIBRARY):
            return None  # it is here without that
        return in_library(repository)

    def _not_here(
        self, lookup: TreeLookup, repository: RepositoryName, last: str = ""
    ) -> tuple[list[Tag], RepositoryDeletions]:
        """Return the tags after *last* that are there and not here, in order, and what was deleted here."""
        name = self._named(repository)
        names = lookup.names(name) if name else frozenset()
        if not names:
            return [], RepositoryDeletions({})
        held = self.loader.registry.tags.list_all(repository, last=last)
        deleted = self.loader.registry.repositories.deletions(repository)  # after the tags: it is newer
        return sorted(tag for tag in names.difference(held) if tag > last), deleted

    def _left(
        self,
        lookup: TreeLookup,
        repository: RepositoryName,
        tags: Iterable[Tag],
        deleted: RepositoryDeletions,
    ) -> Iterator[tuple[Tag, str]]:
        """Yield those of *tags* that were not deleted here, with what they name; each is read when wanted."""
        name = self._named(repository) or ""
        for tag in tags:
            found = lookup.tag(name, tag)
            if found and not _is_past(found, deleted.last(tag, found.image)):
                yield tag, found.image

    def _images(self, lookup: TreeLookup, repository: RepositoryName) -> Iterator[tuple[Tag, str]]:
        """Yield the offered tags, with what they name."""
        return self._left(lookup, repository, *self._not_here(lookup, repository))

    def _wanted(
        self, lookup: TreeLookup, repository: RepositoryName, reference: Tag | Digest
    ) -> Entry | None:
        """Return what is to be taken in for *reference*; None: it is not there, or was deleted here."""
        name = self._named(repository)
        if name is None:
            return None
        found = lookup.find(name, reference)
        if found is None:
            return None
        deleted = self.loader.registry.repositories.deleted_at(repository, reference, found.image)
        return None if _is_past(found, deleted) else _entry(found, repository)

    def _load(self, lookup: TreeLookup, repository: RepositoryName, reference: Tag | Digest) -> bool:
        entry = self._wanted(lookup, repository, reference)
        return entry is not None and self.loader.load(lookup.tree, entry)

    def _load_image(self, lookup: TreeLookup, repository: RepositoryName, image: ImageId) -> bool:
        tree = lookup.tree
        if not tree.has_image(image):
            return False
        if not lookup.leads_to((top for _, top in self._images(lookup, repository)), image):
            return False
        name = self._named(repository) or ""
        return self.loader.load_image(tree, Entry(name, "", image, repository, "", PlanAction.IMPORT))


def _entry(found: SourceTag, repository: RepositoryName) -> Entry:
    return Entry(
        found.repository,
        found.tag,
        found.image,
        repository,
        found.tag,
        PlanAction.IMPORT,
        updated=found.stamp,
    )


def _is_past(found: SourceTag, deleted: datetime | None) -> bool:
    return deleted is not None and found.updated is not None and found.updated <= deleted
