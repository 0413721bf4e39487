"""A restore: the catalog of a backup, then its blobs, and the link files that the rows say.

A note in the catalog says that it is not complete. While it is there, the registry is not served, and the
same restore may be run again.
"""

from contextlib import closing
from pathlib import Path

from dualreg.catalog.copying import at_one_instant, copy_rows, open_copy
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.upgrade import revision, upgrade
from dualreg.maintenance.backup.folder import BackupFolder, Marker, copy_journals, delete_log
from dualreg.ownership import make_folders
from dualreg.storage import Store, durable
from dualreg.storage.names import Names


class NotEmpty(ValueError):
    """There is a registry already; the message says where."""


def is_unfinished(catalog: Catalog) -> bool:
    """Return whether a restore to an existing catalog has begun and was not finished.

    Raises:
        CatalogUnreachable, DatabaseFailure.
    """
    if revision(catalog).found is None:
        return False
    with catalog.read() as tx:
        return tx.notes.read(Note.RESTORE) is not None


def is_empty_store(store: Store, *private: str) -> bool:
    """Return whether a store has no blobs, no names, and none of the *private* files of a catalog."""
    left = any(store.read_private(name) is not None for name in private)
    return not left and next(store.walk(), None) is None and Names(store).is_empty()


def require_empty_store(store: Store, *private: str) -> None:
    """Raise NotEmpty unless a store is empty, as ``is_empty_store``."""
    if not is_empty_store(store, *private):
        left = any(store.read_private(name) is not None for name in private)
        also = f", with {' and '.join(private)}" if left else ""
        raise NotEmpty(f"the store is not empty; restore to another directory, or move it away{also}")


def require_empty_database(catalog: Catalog) -> None:
    """Raise NotEmpty if a database that others may have prepared has content."""
    if revision(catalog).found is None:
        return
    with catalog.read() as tx:
        if tx.repositories.any() or not tx.access.is_empty():
            raise NotEmpty("the database is not empty; choose another one")


def take_catalog(folder: BackupFolder, marker: Marker, path: Path) -> None:
    """Copy the catalog of a backup to *path*, upgraded to this version, with the note that it is incomplete.

    Raises:
        BackupInvalid: it is damaged.
        CatalogUnreachable: a newer version made it.
    """
    make_folders(path.parent)
    folder.copy_catalog(marker, path)
    with closing(open_copy(path)) as copy:
        upgrade(copy)
        with copy.begin() as tx:
            tx.notes.write(Note.RESTORE, marker.at)


def move_catalog(path: Path, target: Path) -> None:
    """Make a catalog that was taken the SQLite file of the registry, in place of an unfinished one."""
    delete_log(target)
    durable.move(path, target)
    durable.sync(target.parent)


def load_catalog(path: Path, catalog: Catalog) -> None:
    """Load a catalog that was taken into another database, and delete it."""
    upgrade(catalog)
    with closing(open_copy(path)) as copy, at_one_instant(copy) as rows:
        with copy.read() as taken, catalog.begin() as tx:
            tx.notes.write(Note.RESTORE, taken.notes.read(Note.RESTORE) or "")  # before any other row
        copy_rows(rows, catalog)
    path.unlink()


def conclude(folder: BackupFolder, catalog: Catalog, journals: Path) -> None:
    """Restore the journals of migrations, and declare complete a registry with all blobs and link files."""
    copy_journals(folder.journals, journals)
    with catalog.begin() as tx:
        tx.notes.remove(Note.READ_ONLY)
        tx.notes.remove(Note.RESTORE)
