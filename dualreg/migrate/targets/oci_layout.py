"""An OCI image layout. OCI documents keep their digests; Docker's become OCI's of the same config and layers.

Those who read layouts pass over other types.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from dualreg.image import media_types
from dualreg.image.convert import docker_to_oci
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import FORMATS
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.layouts import NAME, REPOSITORY, annotations_of
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, TargetInvalid, check_folder
from dualreg.migrate.targets.files import write_blob, write_if_changed

_Entry = Mapping[str, Any]


class OciLayoutTarget:
    """A Target; what it holds already stays, but for tags that move.

    A layout that was only ever used for one repository has its tags by their names alone, others have the
    repository before them.
    """

    takes_schema1 = False
    renames = True
    one_by_one = False

    def __init__(self, path: Path, leaving: Iterable[str], *, deep: bool = False) -> None:
        """Write below *path*.

        Args:
            leaving: The repositories that tags of will come.
            deep: Read the blobs that are there already.

        Raises:
            NoTarget: it is no folder, or has an index that cannot be read.
        """
        check_folder(path)
        self._root, self._deep, self._lock = path, deep, Lock()
        self._renamed: dict[RepositoryName, dict[str, Descriptor]] = {}
        self._entries: dict[str, list[_Entry]] = {}
        index = path / "index.json"
        try:
            entries = json.loads(index.read_bytes())["manifests"] if index.exists() else []
            for entry in entries:
                self._entries.setdefault(_key(entry), []).append(entry)
            used = {annotations_of(entry).get(REPOSITORY) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetInvalid(f"{index}: it makes no sense ({error})") from error
        self._single = len({*used, *leaving}) == 1

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """See Target."""
        del repository
        return write_blob(self._path(digest), digest, source, deep=self._deep)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """See Target. What is about something else is found without a tag, too."""
        repository = manifest.repository
        renamed = self._renamed.setdefault(repository, {})
        media_type = media_types.DOCKER_TO_OCI.get(manifest.media_type, manifest.media_type)
        payload = (
            docker_to_oci(manifest.payload, renamed) if manifest.media_type in FORMATS else manifest.payload
        )
        described = Descriptor(media_type, Digest.of(payload, manifest.digest.algorithm), len(payload))
        if (described.digest, media_type) != (manifest.digest, manifest.media_type):
            renamed[str(manifest.digest)] = described
        sent = write_if_changed(self._path(described.digest), payload)
        changed = [self._name(described, repository, tag) for tag in tags]
        if manifest.subject and not tags:
            changed = [self._list({**described.to_json(), "annotations": {REPOSITORY: repository}})]
        return sent or any(changed)

    def finish(self) -> None:
        """See Target: the index names everything that has a tag, and what is about something."""
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
        """Take out the tag as it was named while the repository had the layout for itself."""
        with self._lock:
            before = self._entries.pop(tag, [])
            if others := [each for each in before if annotations_of(each).get(REPOSITORY) != repository]:
                self._entries[tag] = others

    def _list(self, entry: _Entry) -> bool:
        """Put an entry in the place of those of its name; tell whether that changed anything."""
        with self._lock:
            changed = self._entries.get(_key(entry)) != [entry]
            self._entries[_key(entry)] = [entry]
        return changed

    def _path(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex


def _key(entry: _Entry) -> str:
    """Return what an entry is found by: its name, or what it is and of which repository."""
    annotations = annotations_of(entry)
    name = annotations.get(NAME)
    return name if isinstance(name, str) else f"{annotations.get(REPOSITORY, '')}@{entry.get('digest')}"
