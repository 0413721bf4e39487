"""The full sweep: a look at every link, blob and file for garbage that was never noted, in pages.

It deletes nothing. What it notes is reviewed after the grace, as what was noted when it was made
(``maintenance.gc``). How far it came is a note in the catalog, so that the next sweep goes on there.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.dialects import batches
from dualreg.catalog.notes import Note
from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest
from dualreg.registry.state import State

#: Links, blobs or files that are looked at in one transaction.
PAGE = 500
#: Files without a row that are looked for among the link files at a time, all of which are read for that.
_ORPHANS = 100_000
#: What a sweep looks at, in this order; ``service_state`` has the present one, and what follows its place.
_LINKS, _BLOBS, _FILES = "links", "blobs", "files"


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep of rows and files."""

    state: State

    def rows(self) -> Iterator[int]:
        """Sweep links and blobs, as ``sweep_rows``."""
        return sweep_rows(self.state.catalog)

    def files(self) -> Iterator[int]:
        """Condemn files of the store that the catalog does not know; yields how many after each page.

        Only files older than the grace, and not those that a link file names: then the catalog was restored
        from a backup that is older than the store, and ``dualreg db rebuild`` finds what it lacks.
        """
        before = self.state.catalog.now() - self.state.retention.grace
        stored = (each for each in self.state.store.walk() if each.modified_at < before)
        files = (BlobRow(each.digest, each.size) for each in stored)
        orphans = (each for page in batches(files) for each in self._unknown(page))
        for found in batches(orphans, _ORPHANS):
            for page in batches(self._without_link_file(found), PAGE):
                with self.state.catalog.begin() as tx:
                    adopted = tx.garbage.adopt(page)
                yield adopted

    def finish(self) -> None:
        """Let the next sweep look at everything again."""
        with self.state.catalog.begin() as tx:
            tx.notes.remove(Note.SWEEP)

    def _unknown(self, files: Collection[BlobRow]) -> list[BlobRow]:
        """Return those of *files* that the catalog does not know."""
        with self.state.catalog.read() as tx:
            known = tx.blobs.sizes([each.digest for each in files])
        return [each for each in files if each.digest not in known]

    def _without_link_file(self, files: Collection[BlobRow]) -> list[BlobRow]:
        """Return those of *files* that no link file names."""
        wanted = {str(each.digest).encode(): each for each in files}
        for _, content in self.state.links.tree.walk_links():
            wanted.pop(content.strip(), None)
        return [*wanted.values()]


def sweep_rows(catalog: Catalog) -> Iterator[int]:
    """Make candidates of links that nothing leads to, and condemn blobs without a link.

    Yields the number of rows after each page.
    """
    finished = False
    while not finished:
        with catalog.begin() as tx:
            what, *place = (tx.notes.lock(Note.SWEEP) or _LINKS).split()
            following = _sweep_links(tx, place) if what == _LINKS else _sweep_blobs(tx, what, place)
            finished = following == _FILES
            tx.notes.write(Note.SWEEP, following)
        yield PAGE


def _sweep_links(tx: Transaction, place: list[str]) -> str:
    last = tx.garbage.note_unused((int(place[0]), Digest.parse(place[1])) if place else None, PAGE)
    return f"{_LINKS} {last[0]} {last[1]}" if last else _BLOBS


def _sweep_blobs(tx: Transaction, what: str, place: list[str]) -> str:
    after = Digest.parse(place[0]) if place else None
    last = tx.garbage.condemn_unlinked(after, PAGE) if what == _BLOBS else None
    return f"{_BLOBS} {last}" if last else _FILES
