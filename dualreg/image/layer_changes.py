"""Layer changes: what a layer adds to the layers below, changes in them, and removes from them.

Only what the layer has to do with is kept of the layers below. A file that the layer has counts as changed
whatever its content is, which is not compared; a directory only if its permissions or owner are.

Source: OCI image-spec v1.1, layer.md, "Applying Changesets".
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from dualreg.image.entries import Entry, Kind, memory_of

#: Called with how many more names, and bytes of names, are kept in memory; what it raises is passed on.
Keep = Callable[[int, int], None]


class Change(StrEnum):
    """What a layer does to a file."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Changed(NamedTuple):
    """What a layer does to a file, and the entry: that of the layer or, if it is removed, of those below."""

    change: Change
    entry: Entry


def changes(
    layer: Iterable[Entry], below: Iterable[Iterable[Entry]], keep: Keep = lambda *_: None
) -> Iterator[Changed]:
    """Yield what a layer changes, by path.

    Args:
        below: The layers below it, the base first; all of them are read.
    """
    upper, lower = _Tree(keep), _Tree(keep)
    for entry in layer:
        upper.put(entry)
    for each in below:
        lower.lay(each, upper.concerns)
    yield from _compare(upper.root, lower.root)


@dataclass(slots=True)
class _Node:
    """A path of a layer, or of several that lie on each other.

    Attributes:
        entry: The last one of this path; None: there is none, but there may be some below.
        replaces: Whether nothing stays of what lower layers have at the path and below it.
        opaque: Whether nothing stays of what they have below it.
    """

    entry: Entry | None = None
    replaces: bool = False
    opaque: bool = False
    children: dict[str, "_Node"] = field(default_factory=dict)


@dataclass(slots=True)
class _Tree:
    """The paths of one layer with its whiteouts, or of several that were laid on each other."""

    keep: Keep
    root: _Node = field(default_factory=_Node)

    def put(self, entry: Entry) -> None:
        """Add an entry of a layer, which may be a whiteout."""
        if entry.kind is Kind.WHITEOUT:
            self._node(entry.path).replaces = True
        elif entry.kind is Kind.OPAQUE:
            self._node(entry.path).opaque = True
        else:
            self._add(entry)

    def lay(self, layer: Iterable[Entry], concerns: Callable[[str], bool]) -> None:
        """Lay another layer on these: of its files, only those that *concerns* holds of.

        Its whiteouts are about the layers below it alone, wherever they are in the archive.
        """
        own = list[Entry]()
        for entry in layer:
            if entry.kind is Kind.WHITEOUT:
                self._remove(entry.path)
            elif entry.kind is Kind.OPAQUE:
                if node := self._find(_parts(entry.path)):
                    node.children = {}
            elif concerns(entry.path):
                self.keep(1, memory_of(entry.path))
                own.append(entry)
        for entry in own:
            self._add(entry)

    def concerns(self, path: str) -> bool:
        """Return whether the layer has the path, something below it, or may remove it."""
        node = self.root
        for part in _parts(path):
            if node.replaces or node.opaque:
                return True
            if (child := node.children.get(part)) is None:
                return False
            node = child
        return True

    def _add(self, entry: Entry) -> None:
        self.keep(0, memory_of(entry.path, entry.target))
        node = self._node(entry.path)
        if entry.kind is not Kind.DIRECTORY:
            node.children, node.replaces = {}, True
        node.entry = entry

    def _node(self, path: str) -> _Node:
        """Return the node of a path, made if need be."""
        node = self.root
        for part in _parts(path):
            if part not in node.children:
                self.keep(1, memory_of(part))
                node.children[part] = _Node()
            node = node.children[part]
        return node

    def _find(self, parts: Iterable[str]) -> _Node | None:
        node: _Node | None = self.root
        for part in parts:
            node = node.children.get(part) if node else None
        return node

    def _remove(self, path: str) -> None:
        *above, last = _parts(path) or [""]
        if not last:
            self.root = _Node()
        elif node := self._find(above):
            node.children.pop(last, None)


def _parts(path: str) -> list[str]:
    return path.split("/") if path else []


def _compare(upper: _Node, lower: _Node) -> Iterator[Changed]:
    """Yield what differs if *upper* lies on *lower*; paths may be deep, so this does not recurse."""
    waiting: list[tuple[_Node | None, _Node | None, bool]] = [(upper, lower, False)]
    while waiting:
        over, under, gone = waiting.pop()
        gone = gone or (over is not None and over.replaces)
        if found := _change(over, under, gone=gone):
            yield found
        ours, theirs = (each.children if each else {} for each in (over, under))
        gone = gone or (over is not None and over.opaque)
        waiting += (
            (ours.get(name), theirs.get(name), gone) for name in sorted({*ours, *theirs}, reverse=True)
        )


def _change(over: _Node | None, under: _Node | None, *, gone: bool) -> Changed | None:
    new, old = (each.entry if each else None for each in (over, under))
    if new and old:
        return Changed(Change.CHANGED, new) if _differ(new, old) else None
    if new:
        return Changed(Change.ADDED, new)
    return Changed(Change.REMOVED, old) if old and gone else None


def _differ(new: Entry, old: Entry) -> bool:
    if new.kind is Kind.DIRECTORY is old.kind:
        return (new.mode, new.uid, new.gid) != (old.mode, old.uid, old.gid)
    return True
