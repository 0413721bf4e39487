"""Link files of another store, written from the rows, and those removed that no row needs.

Each is written while its repository is locked, so that what is pushed, moved or deleted meanwhile is never
undone. The link files of the first store are not read: they repeat the rows.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from threading import Event

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import RepositoryRow
from dualreg.image.names import RepositoryName, UploadId
from dualreg.maintenance.blob_copy import closing_pool
from dualreg.maintenance.expected_links import ExpectedLink, ExpectedLinks, Page, read_links, walk_links
from dualreg.registry.state import STEP
from dualreg.storage.link_tree import LinkFile, LinkTree, StagedLink
from dualreg.storage.links import Links

#: Repositories that are read at a time.
_PAGE = 200
#: The repository of a path, which ends before the folder of a sort of link files.
_REPOSITORY = re.compile(r"(.*?)/(?:_layers|_manifests|_v1)/")


@dataclass
class LinkCopy:
    """Makes the link files of *target* those that the rows of *catalog* say.

    Attributes:
        jobs: How many repositories are looked at at once.
        advance: Called with the repositories and link files that are done since the last call; by any thread.
        stop: Set from outside to stop between two pages.
        written, removed: How many link files were.
    """

    catalog: Catalog
    target: LinkTree
    expected: ExpectedLinks
    jobs: int
    advance: Callable[[int, int], None] = lambda *_: None
    stop: Event = field(default_factory=Event)
    written: int = 0
    removed: int = 0

    def run(self) -> None:
        """Write what is missing or wrong, and remove the rest; it is incomplete if that was stopped.

        Raises:
            OSError: the target cannot be read or written.
        """
        last: RepositoryName | None = None
        with closing_pool(self.jobs) as pool:
            while names := self._names(last):
                self.written += sum(pool.map(self._write_repository, names))
                last = names[-1]
        self._remove_strays()

    def _names(self, last: RepositoryName | None) -> Sequence[RepositoryName]:
        with self.catalog.read() as tx:
            found = tx.repositories.walk(last=last or RepositoryName(""), limit=_PAGE)
            return [] if self.stop.is_set() else [name for name, _ in found]

    def _write_repository(self, name: RepositoryName) -> int:
        """Write what a repository lacks; return how many link files that are."""
        written = 0
        for page in self.expected.pages:
            after: object = None
            while expected := self._look(name, page, after):
                wrong = self._wrong(expected)
                settled = [self._write(name, page, after, batch) for batch in batches(wrong, STEP)]
                written += sum(settled)
                if sum(settled) == len(wrong):  # otherwise, a row has changed meanwhile
                    after = expected[-1].key
                    self.advance(0, len(expected))
        self.advance(1, 0)
        return written

    def _look(self, name: RepositoryName, page: Page, after: object) -> Sequence[ExpectedLink]:
        """Return a page of what there must be; nothing if the repository was deleted, or to stop."""
        with self.catalog.read() as tx:
            row = tx.repositories.find(name)
            return page(tx, row, after) if row and not self.stop.is_set() else ()

    def _wrong(self, expected: Sequence[ExpectedLink]) -> Sequence[ExpectedLink]:
        found = read_links(self.target, expected)
        return [each for each, file in zip(expected, found, strict=True) if not _is_right(each, file)]

    def _write(self, name: RepositoryName, page: Page, after: object, links: Sequence[ExpectedLink]) -> int:
        """Write link files, if the rows still say so while nothing can change them; return how many."""
        staged = {each: self._staged(each) for each in links if not each.optional}
        with Links(self.target).staged([*staged.values()]), self.catalog.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            still = {*page(tx, row, after)}.intersection(links) if row else set[ExpectedLink]()
            self.target.place_links([link for each, link in staged.items() if each in still])
            self.target.remove_link(*(each.path for each in still if each.optional))
        return len(still)

    def _staged(self, link: ExpectedLink) -> StagedLink:
        folder, _, name = link.path.rpartition("/")
        return StagedLink(UploadId.new(), folder, name, link.content, link.at or self.catalog.now())

    def _remove_strays(self) -> None:
        """Remove the link files that no row needs, of all repositories."""
        for name, paths in groupby(self.target.link_paths(), key=_repository_of):
            if self.stop.is_set():
                return
            if name is None:
                continue
            with self.catalog.read() as tx:
                row = tx.repositories.find(name)
                stray = {*paths} - self._paths(tx, row)
            if stray:
                self._remove(name, stray)

    def _remove(self, name: RepositoryName, paths: Collection[str]) -> None:
        """Remove those of some link files that no row needs, while nothing can change that.

        Services write them before they commit the row, and perhaps the repository.
        """
        with self.catalog.trial() as trial, trial.begin() as tx:
            row = tx.repositories.ensure(name, exclusive=True)
            stray = {*paths} - self._paths(tx, row)
            self.target.remove_link(*sorted(stray))
        self.removed += len(stray)

    def _paths(self, tx: Transaction, row: RepositoryRow | None) -> set[str]:
        """Return the paths of all link files that a repository may have."""
        if row is None:
            return set()
        return {each.path for page in self.expected.pages for each in walk_links(page, tx, row)}


def _is_right(link: ExpectedLink, found: LinkFile | OSError | None) -> bool:
    """Return whether a file says what the row says, and is dated like it."""
    return link.is_right(found) and (not isinstance(found, LinkFile) or link.is_dated(found))


def _repository_of(path: str) -> RepositoryName | None:
    """Return the repository of a path; None if it is no link file."""
    found = _REPOSITORY.match(path)
    return RepositoryName(found[1]) if found else None
