"""The index of an OCI layout, ``index.json``, to which images are added; and ``oci-layout``.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.oci_annotations import NAME, REPOSITORY, annotations_of
from dualreg.migrate.targets.base import Outgoing, TargetInvalid
from dualreg.migrate.targets.files import write_if_changed

_Entry = Mapping[str, Any]


class LayoutIndex:
    """The entries of an index, for any number of threads; existing ones stay, except for tags that move.

    In a layout that was only used for one repository, images are named by their tags alone; in others, by
    repository and tag.
    """

    def __init__(self, root: Path, repositories: Iterable[str]) -> None:
        """Read the index below *root*, if there is one.

        Args:
            repositories: Those of all tags that will be exported.

        Raises:
            TargetInvalid: it is invalid.
        """
        self._root, self._lock = root, Lock()
        self._entries: dict[str, list[_Entry]] = {}
        index = root / "index.json"
        try:
            entries = (json.loads(index.read_bytes())["manifests"] or []) if index.exists() else []
            for entry in entries:
                self._entries.setdefault(_key(entry), []).append(entry)
            used = {annotations_of(entry).get(REPOSITORY) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetInvalid(f"{index}: invalid index: {error}") from error
        self._single = len({*used, *repositories}) == 1

    def add(self, manifest: Outgoing, described: Descriptor, tags: Iterable[Tag]) -> bool:
        """Add a manifest, as it is *described* in the layout, under *tags*; return whether that is new.

        One with a subject is listed even without a tag.
        """
        changed = [self._name(described, manifest.repository, tag) for tag in tags]
        if manifest.subject and not changed:
            changed = [self._list({**described.to_json(), "annotations": {REPOSITORY: manifest.repository}})]
        return any(changed)

    def save(self) -> None:
        """Write the files, unless they are the same."""
        write_if_changed(self._root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        entries = [entry for key in sorted(self._entries) for entry in self._entries[key]]
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX}
        write_if_changed(
            self._root / "index.json", json.dumps({**index, "manifests": entries}, indent=2).encode()
        )

    def _name(self, described: Descriptor, repository: RepositoryName, tag: Tag) -> bool:
        name = tag if self._single else f"{repository}:{tag}"
        if not self._single:
            self._forget(repository, tag)
        annotations = {NAME: name, REPOSITORY: repository}
        return self._list({**described.to_json(), "annotations": annotations})

    def _forget(self, repository: RepositoryName, tag: Tag) -> None:
        """Remove the entry of a tag that was named without its repository."""
        with self._lock:
            before = self._entries.pop(tag, [])
            if others := [each for each in before if annotations_of(each).get(REPOSITORY) != repository]:
                self._entries[tag] = others

    def _list(self, entry: _Entry) -> bool:
        """Replace the entries of the same name by *entry*; return whether that changed anything."""
        with self._lock:
            changed = self._entries.get(_key(entry)) != [entry]
            self._entries[_key(entry)] = [entry]
        return changed


def _key(entry: _Entry) -> str:
    """Return the key of an entry: its name, or its repository and digest."""
    annotations = annotations_of(entry)
    name = annotations.get(NAME)
    return name if isinstance(name, str) else f"{annotations.get(REPOSITORY, '')}@{entry.get('digest')}"
