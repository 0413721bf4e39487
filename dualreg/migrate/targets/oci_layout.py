"""An OCI image layout. OCI documents keep their digests; Docker's become OCI's of the same config and layers.

Those who read layouts pass over other types.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from dualreg.image import media_types
from dualreg.image.convert import as_oci
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import NoTarget, Outgoing, check_folder
from dualreg.migrate.targets.files import write_blob, write_if_changed

_NAME = "org.opencontainers.image.ref.name"


class OciLayoutTarget:
    """A Target; what it holds already stays.

    Tags are named alone if only one repository leaves, and with it otherwise.
    """

    takes_schema1 = False
    renames = True
    one_by_one = False

    def __init__(self, path: Path, *, single: bool) -> None:
        """Write below *path*.

        Raises:
            NoTarget: it is no folder, or has an index that cannot be read.
        """
        check_folder(path)
        self._root, self._single, self._lock = path, single, Lock()
        self._renamed: dict[str, Descriptor] = {}
        self._entries: list[dict[str, Any]] = []
        index = path / "index.json"
        if index.exists():
            try:
                self._entries = [*json.loads(index.read_bytes())["manifests"]]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise NoTarget(f"{index}: it makes no sense ({error})") from error

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """See Target."""
        del repository
        return write_blob(self._path(digest), digest, source)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """See Target."""
        media_type = media_types.AS_OCI.get(manifest.media_type, manifest.media_type)
        payload = as_oci(manifest.payload, self._renamed)
        described = Descriptor(media_type, Digest.of(payload, manifest.digest.algorithm), len(payload))
        self._renamed[str(manifest.digest)] = described
        sent = write_blob(self._path(described.digest), described.digest, SourceBytes.of(payload))
        entry = described.to_json()
        names = [tag if self._single else f"{manifest.repository}:{tag}" for tag in tags]
        changed = [self._name(entry, name) for name in names]
        return bool(sent) or any(changed)

    def finish(self) -> None:
        """See Target: the index names everything that has a tag."""
        write_if_changed(self._root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        entries = sorted(self._entries, key=lambda entry: (str(_name(entry)), str(entry.get("digest"))))
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
        write_if_changed(
            self._root / "index.json", json.dumps({**index, "manifests": entries}, indent=2).encode()
        )

    def _name(self, entry: dict[str, Any], name: str) -> bool:
        entry = {**entry, "annotations": {_NAME: name}}
        with self._lock:
            if entry in self._entries:
                return False
            self._entries = [each for each in self._entries if _name(each) != name]
            self._entries.append(entry)
        return True

    def _path(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex


def _name(entry: dict[str, Any]) -> object:
    return (entry.get("annotations") or {}).get(_NAME)
