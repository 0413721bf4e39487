"""What layers of images have, and what they change in the layers below."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from dualreg.image.digest import Digest
from dualreg.image.entries import Kind, named, shown
from dualreg.image.layer_changes import Change
from dualreg.image.names import RepositoryName, parse_reference
from dualreg.image.platform import Platform
from dualreg.operations.places import parse_row_number
from dualreg.operations.session import Group, page_size
from dualreg.registry.inspection import ImageLayers
from dualreg.registry.layer_files import FoundEntry, LayerContents


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """An entry of a layer.

    Attributes:
        path: From the root, escaped. Of a whiteout: what it removes.
        permissions: With the kind, as ls writes them; empty of whiteouts.
        size: Bytes of a file.
        modified_at: When the file was last modified; null: that is no time.
        target: What a link leads to, escaped; empty of others.
        change: What the layer does by it to the layers below; null: they were not asked for.
    """

    path: str
    kind: Kind
    permissions: str
    uid: int
    gid: int
    size: int
    modified_at: datetime | None
    target: str
    change: Change | None


@dataclass(frozen=True, slots=True)
class LayerPage:
    """Some entries of a layer.

    Attributes:
        image: The manifest, which is another one than was asked for if that is an index.
        position: Which layer of the image it is; the base is 1.
        layers: How many layers the image has.
        rows: The entries of this page.
        next: What to give as *after* for the next page; null: this is the last one.
        total: How many entries all pages have.
        counts: How many of them are added, changed and removed; empty if that was not asked for.
        incomplete: Why there is more than that, as a sentence; empty: there is not.
    """

    image: Digest
    layer: Digest
    position: int
    layers: int
    rows: Sequence[LayerEntry]
    next: str | None
    total: int
    counts: Mapping[str, int]
    incomplete: str


@dataclass(frozen=True)
class Layers(Group):
    """The layers of images."""

    def files(
        self,
        repository: RepositoryName,
        reference: str = "latest",
        *,
        layer: str = "",
        platform: str = "linux/amd64",
        path: str = "",
        n: int = 100,
        after: str = "",
    ) -> LayerPage:
        """List what a layer of an image has, in the order of its archive.

        Args:
            reference: A tag or a digest.
            layer: The digest of the layer, or the beginning of that; by default, the last one.
            platform: Of an index, the image for this platform counts: OS/ARCHITECTURE[/VARIANT].
            path: Only this path, and what is below it; written as in answers.
            n: How many entries a page has at most.
            after: The end of the page before.

        Raises:
            ManifestUnknown, TagInvalid, DigestInvalid, ServerBusy.
            ValueError: the platform is invalid, or several layers begin like that.
        """
        found = self._layers(repository, reference, platform)
        at = found.position(layer)
        contents = self.session.registry.layer_files.files(repository, found.layers[at])
        return _Asked(path, n, after).of(found, at, contents)

    def changes(
        self,
        repository: RepositoryName,
        reference: str = "latest",
        *,
        layer: str = "",
        platform: str = "linux/amd64",
        path: str = "",
        n: int = 100,
        after: str = "",
    ) -> LayerPage:
        """List what a layer of an image adds to the layers below it, changes in them and removes, by path.

        Args:
            reference: A tag or a digest.
            layer: The digest of the layer, or the beginning of that; by default, the last one.
            platform: Of an index, the image for this platform counts: OS/ARCHITECTURE[/VARIANT].
            path: Only this path, and what is below it; written as in answers.
            n: How many entries a page has at most.
            after: The end of the page before.

        Raises:
            ManifestUnknown, TagInvalid, DigestInvalid, ServerBusy.
            ValueError: the platform is invalid, or several layers begin like that.
        """
        found = self._layers(repository, reference, platform)
        at = found.position(layer)
        contents = self.session.registry.layer_files.changes(repository, found.layers[: at + 1])
        return _Asked(path, n, after).of(found, at, contents, [*Change])

    def _layers(self, repository: RepositoryName, reference: str, platform: str) -> ImageLayers:
        inspection = self.session.registry.inspection
        return inspection.layers(repository, parse_reference(reference), Platform.parse(platform))


class _Asked(NamedTuple):
    """Which page is asked for, of the entries at a path and below it."""

    path: str
    n: int
    after: str

    def of(
        self, image: ImageLayers, position: int, contents: LayerContents, counted: Collection[Change] = ()
    ) -> LayerPage:
        """Return the page, with the number of some changes in all pages."""
        path = named(self.path.strip("/"))
        rows = [each for each in contents.rows if _is_below(each, path)] if path else contents.rows
        counts = Counter(each.change for each in rows) if counted else {}
        begin = parse_row_number(self.after) if self.after else 0
        end = min(begin + page_size(self.n), len(rows))
        return LayerPage(
            image=image.image,
            layer=image.layers[position],
            position=position + 1,
            layers=len(image.layers),
            rows=[*map(_entry, rows[begin:end])],
            next=str(end) if begin < end < len(rows) else None,
            total=len(rows),
            counts={change.value: counts[change] for change in counted},
            incomplete=contents.incomplete,
        )


def _is_below(found: FoundEntry, path: str) -> bool:
    return found.entry.path.startswith(path) and found.entry.path[len(path) : len(path) + 1] in {"", "/"}


def _entry(found: FoundEntry) -> LayerEntry:
    entry = found.entry
    return LayerEntry(
        path=f"/{shown(entry.path)}",
        kind=entry.kind,
        permissions=entry.permissions,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
        modified_at=_time(entry.mtime),
        target=shown(entry.target),
        change=found.change,
    )


def _time(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
