"""TreeUpstream: a tree as the upstream of a registry, so that names can be switched before all is copied.

There is no survey: content that the registry lacks costs a look for one file. What was deleted from the
registry is not imported again, unless it was pushed to the tree later. While the tree cannot be read, it is
treated as empty.
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
from dualreg.catalog.rows import ManifestRow, Origin
from dualreg.image.digest import Digest
from dualreg.image.names import LIBRARY, ImageId, RepositoryName, Tag, in_library
from dualreg.messages import safe_line
from dualreg.migrate.on_demand.loader import Loader
from dualreg.migrate.on_demand.lookup import TreeLookup
from dualreg.migrate.on_demand.trees import OnDemandTree
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.sources.base import SourceInvalid, SourceTag
from dualreg.migrate.transfer import is_output_error
from dualreg.registry.upstream import ComingBlob, Freshness
from dualreg.transports import Use, parse_location

_log = logging.getLogger(__name__)
T = TypeVar("T")
#: How many seconds pass between two warnings that the source cannot be read.
_WARNING_INTERVAL = 60


@dataclass
class TreeUpstream:
    """The content of a tree.

    Attributes:
        open: Opens the tree on first use; raises SourceInvalid or OSError.
    """

    loader: Loader
    open: Callable[[], OnDemandTree]
    _lookup: TreeLookup | None = None
    _lock: Lock = field(default_factory=Lock)
    _warned_at: float | None = None

    def origin_of(self, repository: RepositoryName) -> Origin:
        del repository
        return self._origin

    def is_due(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        del repository, reference
        return row is None

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        del repository, reference  # what was imported stays as it is
        return None

    def stale_list(self, repository: RepositoryName, subject: Digest | None = None) -> str:
        del repository, subject
        return ""

    def count_pull(self, repository: RepositoryName, tag: Tag) -> None:
        pass

    def coming_blob(self, repository: RepositoryName, digest: Digest) -> ComingBlob | None:
        del repository, digest  # images are imported whole
        return None

    @property
    def _origin(self) -> Origin:
        return Origin(parse_location(self.loader.source, Use.ON_DEMAND).transport.generation)

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        return self._ask(lambda lookup: self._load(lookup, repository, reference), otherwise=False)

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        return self._ask(lambda lookup: self._load_image(lookup, repository, image), otherwise=False)

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        def load(lookup: TreeLookup) -> None:
            deleted = self.loader.registry.repositories.deleted_at(repository, subject)
            for found in lookup.referrers(self._name_in_tree(repository) or "", subject):
                if not _was_deleted(found, deleted):
                    self._load(lookup, repository, Digest.parse(found.image))

        if self._origin is Origin.V2:
            self._ask(load, otherwise=None)

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        def list_tags(lookup: TreeLookup) -> Sequence[Tag]:
            tags, deletions = self._missing_tags(lookup, repository, last)
            if deletions.times:  # which is rare; otherwise no tag has to be read
                available = (tag for tag, _ in self._undeleted(lookup, repository, tags, deletions))
                return [*islice(available, limit)]
            return tags[:limit]

        return self._ask(list_tags, otherwise=())

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        return self._ask(lambda lookup: dict(self._images(lookup, repository)), otherwise={})

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        entry = self._ask(lambda lookup: self._entry(lookup, repository, reference), otherwise=None)
        return entry is not None

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        if references is None:
            tx.deletions.record_repository(repository)
        else:
            tx.deletions.record(repository, references)

    def _ask(self, question: Callable[[TreeLookup], T], otherwise: T) -> T:
        """Return the answer of the lookup; log and return *otherwise* if the tree cannot be read."""
        try:
            return question(self._open_lookup())
        except SourceInvalid as error:
            self._warn(error)
        except OSError as error:
            if is_output_error(error):  # of this registry, not of the tree
                raise
            if error.errno != errno.ENAMETOOLONG:  # a name that the tree cannot have
                self._warn(error)
        return otherwise

    def _open_lookup(self) -> TreeLookup:
        with self._lock:
            if self._lookup is None:
                self._lookup = TreeLookup(self.open())
            lookup = self._lookup
        lookup.check()
        return lookup

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if self._warned_at is None or now - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = now
            place, reason = self.loader.source, safe_line(error)
            _log.warning("cannot read legacy_source %s, treating it as empty: %s", place, reason)

    def _name_in_tree(self, repository: RepositoryName) -> str | None:
        """Return the name of a repository in the tree; None: it cannot be in the tree."""
        if self._origin is Origin.V2:
            return repository
        if repository.startswith(LIBRARY):
            return None  # imported repositories drop the prefix
        return in_library(repository)

    def _missing_tags(
        self, lookup: TreeLookup, repository: RepositoryName, last: str = ""
    ) -> tuple[list[Tag], RepositoryDeletions]:
        """Return the tags after *last* that only the tree has, in order, and all deletions."""
        name = self._name_in_tree(repository)
        names = lookup.names(name) if name else frozenset()
        if not names:
            return [], RepositoryDeletions({})
        present = self.loader.registry.tags.list_all(repository, last=last)
        # In this order: a tag that is deleted in between is in one of them.
        deletions = self.loader.registry.repositories.deletions(repository)
        return sorted(tag for tag in names.difference(present) if tag > last), deletions

    def _undeleted(
        self,
        lookup: TreeLookup,
        repository: RepositoryName,
        tags: Iterable[Tag],
        deletions: RepositoryDeletions,
    ) -> Iterator[tuple[Tag, str]]:
        """Yield those of *tags* that were not deleted, with their images, reading one at a time."""
        name = self._name_in_tree(repository) or ""
        for tag in tags:
            found = lookup.tag(name, tag)
            if found and not found.lost and not _was_deleted(found, deletions.last(tag, found.image)):
                yield tag, found.image

    def _images(self, lookup: TreeLookup, repository: RepositoryName) -> Iterator[tuple[Tag, str]]:
        """Yield the tags that only the tree has, with their images."""
        return self._undeleted(lookup, repository, *self._missing_tags(lookup, repository))

    def _entry(self, lookup: TreeLookup, repository: RepositoryName, reference: Tag | Digest) -> Entry | None:
        """Return the entry to import for *reference*; None: the tree lacks it, or it was deleted since."""
        name = self._name_in_tree(repository)
        if name is None:
            return None
        found = lookup.find(name, reference)
        if found is None:
            return None
        if found.lost:
            self.loader.reject(repository, reference, str(found.lost))
            return None
        deleted = self.loader.registry.repositories.deleted_at(repository, reference, found.image)
        return None if _was_deleted(found, deleted) else _import_entry(found, repository)

    def _load(self, lookup: TreeLookup, repository: RepositoryName, reference: Tag | Digest) -> bool:
        entry = self._entry(lookup, repository, reference)
        return entry is not None and self.loader.load(lookup.tree, entry)

    def _load_image(self, lookup: TreeLookup, repository: RepositoryName, image: ImageId) -> bool:
        tree = lookup.tree
        if not tree.has_image(image):
            return False
        if not lookup.is_ancestor(image, (top for _, top in self._images(lookup, repository))):
            return False
        name = self._name_in_tree(repository) or ""
        return self.loader.load_image(tree, Entry(name, "", image, repository, "", PlanAction.IMPORT))


def _import_entry(found: SourceTag, repository: RepositoryName) -> Entry:
    return Entry(
        found.repository,
        found.tag,
        found.image,
        repository,
        found.tag,
        PlanAction.IMPORT,
        updated=found.stamp,
    )


def _was_deleted(found: SourceTag, deleted: datetime | None) -> bool:
    """Return whether a tag was deleted from the registry, and not pushed to the tree since."""
    return deleted is not None and found.updated is not None and found.updated <= deleted
