"""Undo: link files as they were before a change of the catalog that failed.

Link files are written and removed before the commit, so that their order is that of the commits. If the
commit fails, what was written must not stay, and what was removed must come back: a catalog that is rebuilt
would otherwise have what was refused.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from dualreg.image.names import UploadId
from dualreg.storage.link_tree import FolderLinks, LinkFile, LinkTree, StagedLink

_log = logging.getLogger(__name__)


class _Change(NamedTuple):
    """A file before and after a change; None: there is none."""

    path: str
    before: LinkFile | None
    after: bytes | None


@dataclass
class _Undo:
    """What has changed since a transaction began.

    Attributes:
        aside: Folders that were removed, and where they are now.
    """

    tree: LinkTree
    changes: list[_Change] = field(default_factory=list)
    aside: list[tuple[UploadId, Sequence[FolderLinks]]] = field(default_factory=list)

    def __enter__(self) -> Callable[[], None]:
        """Note changes of this thread in the block."""
        self._token = _active.set(self)
        return self.restore

    def __exit__(self, *_: object) -> None:
        _active.reset(self._token)
        self.forget()

    def restore(self) -> None:
        """Undo every change, the last one first; leave files that other requests have changed since."""
        for change in reversed(self.changes):
            with _logged("undo a change of link files"):
                found = self.tree.read_link(change.path)
                if (found and found.content) == change.after:
                    _write(self.tree, change.path, change.before)
        while self.aside:
            aside, folders = self.aside.pop()  # what cannot be brought back must not be deleted
            with _logged("undo a change of link files"):
                self.tree.bring_back(aside, *folders)

    def forget(self) -> None:
        """Delete what was set aside and not brought back; what cannot be deleted is collected later."""
        for aside, _ in self.aside:
            with _logged("delete link files that were removed"):
                self.tree.drop(aside)


_active: ContextVar[_Undo | None] = ContextVar("dualreg_undo", default=None)


def noted(tree: LinkTree) -> AbstractContextManager[Callable[[], None]]:
    """Note the changes of link files that the block makes; yield what undoes them, until the block ends.

    What it fails to undo is logged.
    """
    return _Undo(tree)


def write(tree: LinkTree, path: str, content: bytes, at: datetime | None) -> None:
    """Write a link file, so that what ``noted`` yields can undo it."""
    note(tree, {path: content})
    tree.write_link(path, content, at)


def remove(tree: LinkTree, *paths: str) -> None:
    """Remove link files, as ``write``."""
    found = zip(paths, tree.read_links(paths), strict=True)
    changes = [_Change(path, before, None) for path, before in found if before]
    if undo := _active.get():
        undo.changes += changes
    if changes:
        tree.remove_link(*(change.path for change in changes))


def place(tree: LinkTree, links: Sequence[StagedLink]) -> None:
    """Place link files that were staged, as ``write``."""
    note(tree, {link.path: link.content for link in links})
    tree.place_links(links)


def remove_folders(tree: LinkTree, *folders: FolderLinks) -> None:
    """Remove folders with the files in them, as ``write``."""
    if not folders:
        return
    aside, undo = UploadId.new(), _active.get()
    if undo:
        undo.aside.append((aside, folders))
    tree.set_aside(aside, *folders)
    if undo is None:
        tree.drop(aside)


def note(tree: LinkTree, changes: Mapping[str, bytes | None]) -> None:
    """Note what link files are about to become (None: be removed), so that it can be undone."""
    if undo := _active.get():
        found = zip(changes.items(), tree.read_links([*changes]), strict=True)
        undo.changes += [_Change(path, before, after) for (path, after), before in found]


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log a failure to do one thing, so that the others are done all the same."""
    try:
        yield
    except OSError as error:
        _log.error("cannot %s: %s", what, error)


def _write(tree: LinkTree, path: str, file: LinkFile | None) -> None:
    if file is None:
        tree.remove_link(path)
    else:
        tree.write_link(path, file.content, file.at)
