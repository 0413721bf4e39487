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
from dualreg.catalog.forgotten import Deletions
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import LIBRARY, ImageId, RepositoryName, Tag, in_library
from dualreg.migrate.offers import Offers
from dualreg.migrate.on_request import OnRequest
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.sources.base import NoSource, SourceTag
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_tree import V1Tree
from dualreg.migrate.transfer import is_ours

_log = logging.getLogger(__name__)
T = TypeVar("T")
#: Seconds for which trouble with the source is told once.
_PATIENCE = 60


@dataclass
class LiveSource:
    """A Legacy over a tree.

    Attributes:
        intake: Takes in what is wanted.
        open: Opens the tree, when it is first asked; raises NoSource or OSError.
    """

    intake: OnRequest
    open: Callable[[], V1Tree | RegistryTree]
    _offers: Offers | None = None
    _lock: Lock = field(default_factory=Lock)
    _complained: float | None = None

    @property
    def origin(self) -> Origin:
        """See Legacy."""
        return Origin.V1 if self.intake.source.startswith("v1-tree:") else Origin.V2

    def bring(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        return self._ask(lambda offers: self._bring(offers, repository, reference), otherwise=False)

    def bring_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """See Legacy."""
        return self._ask(lambda offers: self._bring_image(offers, repository, image), otherwise=False)

    def bring_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """See Legacy."""

        def bring(offers: Offers) -> None:
            with self.intake.registry.state.catalog.read() as tx:
                deleted = tx.forgotten.at(repository, subject)
            for found in offers.referrers(self._named(repository) or "", subject):
                if not _is_past(found, deleted):
                    self._bring(offers, repository, Digest.parse(found.image))

        if self.origin is Origin.V2:
            self._ask(bring, otherwise=None)

    def offered(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        """See Legacy."""

        def offered(offers: Offers) -> Sequence[Tag]:
            tags, deleted = self._elsewhere(offers, repository, last)
            if deleted.times:  # which is rare, and else nothing need be read
                left = (tag for tag, _ in self._left(offers, repository, tags, deleted))
                return [*islice(left, limit)]
            return tags[:limit]

        return self._ask(offered, otherwise=())

    def offered_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """See Legacy."""
        return self._ask(lambda offers: dict(self._images(offers, repository)), otherwise={})

    def offers(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        wanted = self._ask(lambda offers: self._wanted(offers, repository, reference), otherwise=None)
        return wanted is not None

    def forget(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        """See Legacy."""
        if references is None:
            tx.forgotten.mark_all(repository)
        else:
            tx.forgotten.mark(repository, references)

    def _ask(self, question: Callable[[Offers], T], otherwise: T) -> T:
        """Return the answer to a question; *otherwise*, if the source cannot be read now, which is logged."""
        try:
            return question(self._opened())
        except NoSource as error:
            self._complain(error)
        except OSError as error:
            if is_ours(error):  # for which the source is not to blame
                raise
            if error.errno != errno.ENAMETOOLONG:  # a name that cannot be there
                self._complain(error)
        return otherwise

    def _opened(self) -> Offers:
        with self._lock:
            if self._offers is None:
                self._offers = Offers(self.open())
            offers = self._offers
        offers.check()
        return offers

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if self._complained is None or now - self._complained >= _PATIENCE:
            self._complained = now
            _log.warning(
                "legacy_source %s cannot be read, and counts as empty: %s", self.intake.source, error
            )

    def _named(self, repository: RepositoryName) -> str | None:
        """Return what a repository is called there; None: it cannot be."""
        if self.origin is Origin.V2:
            return repository
        if repository.startswith(LIBRARY):
            return None  # it is here without that
        return in_library(repository)

    def _elsewhere(
        self, offers: Offers, repository: RepositoryName, last: str = ""
    ) -> tuple[list[Tag], Deletions]:
        """Return the tags after *last* that are there and not here, in order, and what was deleted here."""
        name = self._named(repository)
        names = offers.names(name) if name else frozenset()
        if not names:
            return [], Deletions({})
        with self.intake.registry.state.catalog.read() as tx:
            held = tx.tags.list(repository, last=last, limit=None) or ()
            deleted = tx.forgotten.of(repository)
        return sorted(tag for tag in names.difference(held) if tag > last), deleted

    def _left(
        self, offers: Offers, repository: RepositoryName, tags: Iterable[Tag], deleted: Deletions
    ) -> Iterator[tuple[Tag, str]]:
        """Yield those of *tags* that were not deleted here, with what they name; each is read when wanted."""
        name = self._named(repository) or ""
        for tag in tags:
            found = offers.tag(name, tag)
            if found and not _is_past(found, deleted.at(tag, found.image)):
                yield tag, found.image

    def _images(self, offers: Offers, repository: RepositoryName) -> Iterator[tuple[Tag, str]]:
        """Yield the offered tags, with what they name."""
        return self._left(offers, repository, *self._elsewhere(offers, repository))

    def _wanted(self, offers: Offers, repository: RepositoryName, reference: Tag | Digest) -> Entry | None:
        """Return what is to be taken in for *reference*; None: it is not there, or was deleted here."""
        name = self._named(repository)
        if name is None:
            return None
        found = offers.find(name, reference)
        if found is None:
            return None
        with self.intake.registry.state.catalog.read() as tx:
            deleted = tx.forgotten.at(repository, reference, found.image)
        return None if _is_past(found, deleted) else _entry(found, repository)

    def _bring(self, offers: Offers, repository: RepositoryName, reference: Tag | Digest) -> bool:
        entry = self._wanted(offers, repository, reference)
        return entry is not None and self.intake.bring(offers.tree, entry)

    def _bring_image(self, offers: Offers, repository: RepositoryName, image: ImageId) -> bool:
        tree = offers.tree
        if not isinstance(tree, V1Tree) or not tree.has(image):
            return False
        if not offers.leads_to((top for _, top in self._images(offers, repository)), image):
            return False
        name = self._named(repository) or ""
        return self.intake.bring_image(tree, Entry(name, "", image, repository, "", Action.IMPORT))


def _entry(found: SourceTag, repository: RepositoryName) -> Entry:
    return Entry(
        found.repository, found.tag, found.image, repository, found.tag, Action.IMPORT, updated=found.stamp
    )


def _is_past(found: SourceTag, deleted: datetime | None) -> bool:
    return deleted is not None and found.updated is not None and found.updated <= deleted
