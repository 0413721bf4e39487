"""The index of an OCI layout, ``index.json``, to which images are added; and ``oci-layout``.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.oci_annotations import NAME, REPOSITORY, annotations_of
from dualreg.migrate.targets.base import Outgoing, TargetInvalid
from dualreg.migrate.targets.files import has_content, write, write_if_changed

_Entry = Mapping[str, Any]
_Found = tuple[bytes, ...]


class LayoutIndex:
    """The entries of an index, for any number of threads; existing ones stay, except for tags that move.

    In a layout that was only used for one repository, images are named by their tags alone; in others, by
    repository and tag. There may be a hundred thousand: each is kept as JSON, without spaces.
    """

    def __init__(self, root: Path, repositories: Iterable[str]) -> None:
        """Read the index below *root*, if there is one.

        Args:
            repositories: Those of all tags that will be exported.

        Raises:
            TargetInvalid: it is invalid.
        """
        self._root, self._lock = root, Lock()
        self._entries = dict[str, _Found]()
        index, used = root / "index.json", set[str | None]()
        try:
            for entry in (json.loads(index.read_bytes())["manifests"] or []) if index.exists() else []:
                self._entries[_key(entry)] = (*self._entries.get(_key(entry), ()), _packed(entry))
                used.add(annotations_of(entry).get(REPOSITORY))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetInvalid(f"{index}: invalid index: {error}") from error
        self._single = len({*used, *repositories}) == 1

    def lacks(self, manifest: Outgoing, described: Descriptor, tags: Iterable[Tag]) -> bool:
        """Return whether ``add`` would add what is new."""
        with self._lock:
            return any(self._differs(entry) for entry in self._of(manifest, described, tags))

    def add(self, manifest: Outgoing, described: Descriptor, tags: Iterable[Tag]) -> bool:
        """Add a manifest, as it is *described* in the layout, under *tags*; return whether that is new.

        One with a subject is listed even without a tag.
        """
        with self._lock:
            if not self._single:
                for tag in tags:
                    self._forget(manifest.repository, tag)
            fresh = [entry for entry in self._of(manifest, described, tags) if self._differs(entry)]
            self._entries.update((_key(entry), (_packed(entry),)) for entry in fresh)
        return bool(fresh)

    def save(self) -> None:
        """Write the files, unless they are the same."""
        write_if_changed(self._root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        path = self._root / "index.json"
        if not has_content(path, self._text()):
            write(path, self._text())

    def _of(self, manifest: Outgoing, described: Descriptor, tags: Iterable[Tag]) -> Iterator[_Entry]:
        """Yield the entries of a manifest."""
        found, repository = described.to_json(), manifest.repository
        names = [tag if self._single else f"{repository}:{tag}" for tag in tags]
        for name in names:
            yield {**found, "annotations": {NAME: name, REPOSITORY: repository}}
        if manifest.subject and not names:
            yield {**found, "annotations": {REPOSITORY: repository}}

    def _differs(self, entry: _Entry) -> bool:
        """Return whether the index has no such entry, or others of that name."""
        found = self._entries.get(_key(entry), ())
        return found != (_packed(entry),) and [*map(json.loads, found)] != [entry]

    def _forget(self, repository: RepositoryName, tag: Tag) -> None:
        """Remove the entry of a tag that was named without its repository."""
        before = [(each, annotations_of(json.loads(each))) for each in self._entries.pop(tag, ())]
        if others := [each for each, of in before if of.get(REPOSITORY) != repository]:
            self._entries[tag] = (*others,)

    def _text(self) -> Iterator[bytes]:
        """Yield the index, with line breaks, piece by piece."""
        whole = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
        begin, end = json.dumps(whole, indent=2).rsplit("]", 1)
        yield begin.encode()
        separator = "\n    "
        for key in sorted(self._entries):
            for entry in self._entries[key]:
                text = json.dumps(json.loads(entry), indent=2).replace("\n", "\n    ")
                yield f"{separator}{text}".encode()
                separator = ",\n    "
        closing = "\n  " if self._entries else ""
        yield f"{closing}]{end}".encode()


def _packed(entry: _Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode()


def _key(entry: _Entry) -> str:
    """Return the key of an entry: its name, or its repository and digest."""
    annotations = annotations_of(entry)
    name = annotations.get(NAME)
    return name if isinstance(name, str) else f"{annotations.get(REPOSITORY, '')}@{entry.get('digest')}"
