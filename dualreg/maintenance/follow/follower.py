"""Follower: looks at a copied tree again and again, and brings the catalog up to date with what has changed.

A look goes through the link files of all repositories without reading them, and through the blobs that are
recorded. Only repositories of which something has changed are read, and those that wait for something.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.rows import BlobRow
from dualreg.errors import NameInvalid
from dualreg.image.digest import Digest
from dualreg.image.layer import empty_layer
from dualreg.image.names import RepositoryName
from dualreg.maintenance.follow.contents import Contents
from dualreg.maintenance.follow.presence import Presence
from dualreg.maintenance.follow.repository import Following
from dualreg.maintenance.follow.said import Said
from dualreg.storage.followed import UNREAD, FollowedStore
from dualreg.storage.names import Names

#: Rows of blobs that are in memory at a time.
_PAGE = 5000


class TreeAbsent(OSError):
    """The copy is not where it should be, although something of it is recorded."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A tag that the copy has, and that is not shown as the copy says.

    Attributes:
        where: REPOSITORY:TAG; or the path of a file that is not understood.
        since: When that was first seen.
    """

    where: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has found.

    Attributes:
        counts: The numbers of repositories, tags and changed repositories.
        newest: When the newest of the tags was pushed.
        complete: Whether it was not stopped.
    """

    counts: Mapping[str, int]
    waiting: Collection[Waiting]
    newest: datetime | None
    complete: bool


@dataclass(slots=True)
class _Seen:
    """What is remembered of a repository from one look to the next.

    Attributes:
        mark: What its link files were then.
        partial: Whether something that the tree names was not there.
    """

    mark: int | None = None
    partial: bool = False
    typed: frozenset[Digest] = frozenset()
    tags: int = 0
    newest: datetime | None = None
    waiting: tuple[Waiting, ...] = ()


@dataclass
class Follower:
    """Keeps the catalog up to date; one at a time may do so.

    Attributes:
        sparse: Whether indexes may lack manifests, as the registry that is followed allows.
        verify: Whether blobs are read when they are found for the first time.
        stop: Set from outside to stop between two repositories.
        advance: Called with the number of repositories that are done since the last call.
    """

    catalog: Catalog
    store: FollowedStore
    sparse: bool = False
    verify: bool = False
    stop: Event = field(default_factory=Event)
    advance: Callable[[int], None] = lambda _: None
    _seen: dict[RepositoryName, _Seen] = field(default_factory=dict)
    _tree: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Remember nothing yet: the first look reads all link files."""
        self._presence = Presence(self.store, self.verify)

    def look(self) -> Look:
        """Bring the catalog up to date with the copy.

        Raises:
            TreeAbsent, OSError: no copy can be read; nothing was removed from the catalog.
        """
        known, self._tree = self._names(), self.store.tree()
        if known and not self._tree:
            raise TreeAbsent("the copy is not there; is its disk mounted?")
        lost = self._lost()
        marks, odd = self._marks()
        unread = self._below_unread(marks, known)
        due = self._due(marks, known - unread, lost)
        changed = sum(self._follow(name, marks.get(name), lost) for name in due if not self.stop.is_set())
        if complete := not self.stop.is_set():
            self._seen = {name: seen for name, seen in self._seen.items() if name in marks or name in unread}
            self._note_complete()
        return self._result(odd, changed, complete=complete)

    def has_looked(self) -> bool:
        """Return whether a look was ever complete, by any process."""
        with self.catalog.read() as tx:
            return bool(tx.notes.read(Note.FOLLOWED))

    def _names(self) -> frozenset[RepositoryName]:
        with self.catalog.read() as tx:
            return tx.following.names()

    def _lost(self) -> frozenset[Digest]:
        """Return the blobs that are recorded, and not there any more, or with another size."""
        with self.catalog.read() as tx:
            return frozenset(blob.digest for blob in tx.following.blobs(_PAGE) if not self._has(blob))

    def _has(self, blob: BlobRow) -> bool:
        found = self._presence.look(blob.digest)
        return found.size == blob.size if found else blob.digest == empty_layer().digest

    def _marks(self) -> tuple[dict[RepositoryName, int], tuple[Waiting, ...]]:
        marks, odd, now = dict[RepositoryName, int](), list[Waiting](), self.catalog.now()
        for text, mark in self.store.marks():
            try:
                marks[RepositoryName.parse(text)] = mark
            except NameInvalid:
                odd.append(Waiting(text, "not a name of a repository", now))
        return marks, tuple(odd)

    def _below_unread(
        self, marks: Mapping[RepositoryName, int], known: Collection[RepositoryName]
    ) -> frozenset[RepositoryName]:
        """Return repositories that were not found, as folders above them cannot be read: they stay."""
        above = tuple(f"{name}/" for name, mark in marks.items() if mark == UNREAD)
        return frozenset(name for name in known if name not in marks and name.startswith(above))

    def _due(
        self, marks: Mapping[RepositoryName, int], known: Collection[RepositoryName], lost: Collection[Digest]
    ) -> Collection[RepositoryName]:
        """Return those of the repositories that have changed, wait for something, or have lost something."""
        with self.catalog.read() as tx:
            due = tx.following.linking(lost).intersection(known)
        due |= {name for name in known if name not in marks}
        due |= {name for name, mark in marks.items() if self._is_due(name, mark)}
        return sorted(due)

    def _is_due(self, name: RepositoryName, mark: int) -> bool:
        seen = self._seen.get(name)
        return seen is None or seen.mark != mark or seen.partial or mark == UNREAD

    def _follow(self, name: RepositoryName, mark: int | None, lost: Collection[Digest]) -> bool:
        """Bring a repository up to date; return whether anything was changed."""
        seen = self._seen.setdefault(name, _Seen())
        said = Said.read(Names(self.store), name) if mark is not None else Said()
        self.advance(1)
        if not said.is_readable:
            seen.partial = True
            seen.waiting = self._waiting(seen, {entry.path: entry.reason for entry in said.odd})
            return False
        following = Following(self.catalog, self.store, self._presence, name, self.sparse, self._require_tree)
        contents = following.update(said, lost, seen.typed)
        self._seen[name] = _Seen(
            mark,
            bool(contents.waiting or following.unlinked),
            frozenset(each.digest for each in said.manifests.values() if each.media_type),
            len(said.tags),
            max((tag.at for tag in said.tags.values()), default=None),
            self._waiting(seen, _reasons(name, contents)),
        )
        return following.changed

    def _require_tree(self) -> None:
        """Raise TreeAbsent unless the copy is still there with which the look began."""
        if self._tree and self.store.tree() != self._tree:
            raise TreeAbsent("the copy was taken away while it was looked at")

    def _waiting(self, seen: _Seen, reasons: Mapping[str, str]) -> tuple[Waiting, ...]:
        since, now = {each.where: each.since for each in seen.waiting}, self.catalog.now()
        return tuple(Waiting(where, why, since.get(where, now)) for where, why in reasons.items())

    def _note_complete(self) -> None:
        if not self.has_looked():
            with self.catalog.begin() as tx:
                tx.notes.write(Note.FOLLOWED, tx.now.isoformat())

    def _result(self, odd: Collection[Waiting], changed: int, *, complete: bool) -> Look:
        seen = self._seen.values()
        counts = Counter(repositories=len(seen), tags=sum(each.tags for each in seen), changed=changed)
        waiting = [*odd, *(each for one in seen for each in one.waiting)]
        newest = max((each.newest for each in seen if each.newest), default=None)
        return Look(counts, waiting, newest, complete)


def _reasons(name: RepositoryName, contents: Contents) -> dict[str, str]:
    """Return what of a repository is not shown as the tree says, and why."""
    reasons = {entry.path: entry.reason for entry in contents.said.odd}
    late = {tag: said.digest for tag, said in contents.said.tags.items() if said.digest not in contents.whole}
    tagged = {*late.values()}
    for tag, digest in late.items():
        reasons[f"{name}:{tag}"] = f"{digest}: {contents.waiting.get(digest, 'it is missing')}"
    for key, why in contents.waiting.items():
        if key not in tagged:
            reasons[f"{name}@{key}" if isinstance(key, Digest) else f"{name} image {key}"] = why
    return reasons
