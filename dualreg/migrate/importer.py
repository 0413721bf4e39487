"""Intake: what taking in one tag comes to, whatever it names."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.registry import Registry
from dualreg.registry.preconditions import ANY, Precondition


class Stopped(Exception):
    """The run was asked to end; what is begun is finished, and running again goes on."""


class CurrentManifest(NamedTuple):
    """The manifest that a tag points at here, the V1 image that it is seen as, and who pointed it."""

    digest: Digest
    seen: str | None
    origin: Origin | None


class Importer(Protocol):
    """Takes in what a tag of one sort of source names, each part once, and journals it before it is done."""

    def is_same(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        """Tell whether *image* of the source is what is here, in *repository*.

        Raises:
            Broken: something else is called so here, or the source has no such image.
        """

    def is_whole(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        """Tell whether no bytes are missing or cut short of what is here, which is the same as *image*.

        Nothing is read: what was changed at its length is not found.
        """

    def take(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        """Take in an entry's image, then point *tag* at it; return how many bytes were read for it.

        Raises:
            Broken: the source has no such image, or a damaged one.
            PreconditionFailed: the tag was moved or deleted here meanwhile.
            RegistryError: it cannot be here.
            Stopped.
        """


def current_manifest(
    registry: Registry, repository: RepositoryName, reference: Tag | Digest
) -> CurrentManifest | None:
    """Return what *reference* is here now, whoever is shown it."""
    with registry.state.catalog.read() as tx:
        row = tx.manifests.find(repository, reference)
        if row is None:
            return None
        return CurrentManifest(row.digest, tx.views.find(row.repository_id, row.digest), row.origin)


def journal_tag_update(
    journal: Journal,
    entry: Entry,
    before: CurrentManifest | None,
    *,
    made: bool,
    manifest: Digest | None = None,
) -> None:
    """Journal that the entry's tag is about to be pointed.

    Args:
        manifest: What it will point at, if that is known yet.
        made: Whether the manifest is not here yet.
    """
    journal.write(
        "pointing",
        repository=entry.to_repository,
        tag=entry.to_tag,
        image=entry.image,
        manifest=str(manifest or ""),
        before=str(before.digest) if before else "",
        origin=before.origin if before else "",
        made=made,
    )


def require_unchanged(entry: Entry, before: CurrentManifest | None) -> Precondition:
    """Return what must hold of an entry's tag when it is pointed: that nobody moved or deleted it meanwhile.

    Args:
        before: What it was when it was looked at; None: nothing.
    """
    if before:
        return Precondition(match=frozenset({str(before.digest)}))
    return Precondition(none_match=frozenset({ANY}), pushed_at=pushed_at(entry))


def pushed_at(entry: Entry) -> datetime | None:
    """Return when an entry's tag was pushed in the source, if that is known."""
    return datetime.fromisoformat(entry.updated) if entry.updated else None


@dataclass
class KeyedLocks:
    """A lock for each thing that is taken in once, however many tags want it at the same time.

    One that nobody holds or waits for is forgotten.
    """

    _locks: WeakValueDictionary[Hashable, Lock] = field(default_factory=WeakValueDictionary)
    _lock: Lock = field(default_factory=Lock)

    def of(self, thing: Hashable) -> Lock:
        """Return the thing's lock."""
        with self._lock:
            return self._locks.setdefault(thing, Lock())
