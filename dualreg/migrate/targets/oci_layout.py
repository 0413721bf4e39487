"""An OCI image layout. Docker manifests are converted to OCI manifests with the same config and layers.

Readers of layouts ignore Docker's media types. OCI documents keep their digests.

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
from dualreg.migrate.oci_annotations import NAME, REPOSITORY, annotations_of
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, TargetInvalid, check_folder
from dualreg.migrate.targets.files import write_blob, write_if_changed

_Entry = Mapping[str, Any]


class OciLayoutTarget:
    """A Target; existing images stay, except for tags that move.

    In a layout that was only used for one repository, images are named by their tags alone; in others, by
    repository and tag.
    """

    takes_schema1 = False
    served = None
    renames = True
    one_by_one = False
    is_stream = False

    def __init__(self, path: Path, repositories: Iterable[str], *, deep: bool = False) -> None:
        """Write below *path*.

        Args:
            repositories: Those of all tags that will be exported.
            deep: Read existing blobs, instead of comparing sizes.

        Raises:
            TargetInvalid: it is not a folder, or its index is invalid.
        """
        check_folder(path)
        self._root, self._deep, self._lock = path, deep, Lock()
        self._renamed: dict[RepositoryName, dict[str, Descriptor]] = {}
        self._entries: dict[str, list[_Entry]] = {}
        index = path / "index.json"
        try:
            entries = (json.loads(index.read_bytes())["manifests"] or []) if index.exists() else []
            for entry in entries:
                self._entries.setdefault(_key(entry), []).append(entry)
            used = {annotations_of(entry).get(REPOSITORY) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TargetInvalid(f"{index}: invalid index: {error}") from error
        self._single = len({*used, *repositories}) == 1

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        del repository
        return write_blob(self._path(digest), digest, source, deep=self._deep)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        # A manifest with a subject is listed in the index even without a tag.
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
        write_if_changed(self._root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        entries = [entry for key in sorted(self._entries) for entry in self._entries[key]]
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX}
        write_if_changed(
            self._root / "index.json", json.dumps({**index, "manifests": entries}, indent=2).encode()
        )

    def close(self) -> None:
        pass

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

    def _path(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex


def _key(entry: _Entry) -> str:
    """Return the key of an entry: its name, or its repository and digest."""
    annotations = annotations_of(entry)
    name = annotations.get(NAME)
    return name if isinstance(name, str) else f"{annotations.get(REPOSITORY, '')}@{entry.get('digest')}"
