"""An OCI image layout: ``oci-layout``, ``index.json`` and ``blobs``.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dualreg.errors import RegistryError
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.layouts import NAME, REPOSITORY, annotations_of
from dualreg.migrate.sources.base import SourceBytes, SourceInvalid, SourceManifest, SourceTag
from dualreg.migrate.sources.files import blob_file, read_document
from dualreg.migrate.sources.references import split_reference

#: What says how an image is called: containerd's, with repository and all, and everybody's.
_NAMES = ("io.containerd.image.name", NAME)


@dataclass(frozen=True, slots=True)
class OciLayout:
    """A layout; a ManifestSource.

    Attributes:
        repository: What images are in that say only a tag; empty: what they left from, if that was noted, or
            what the folder is called.
    """

    root: Path
    repository: str

    @classmethod
    def open(cls, path: Path, repository: str) -> "OciLayout":
        """Return the layout at *path*.

        Raises:
            NoSource: there is none.
        """
        if not (path / "oci-layout").is_file() or not (path / "index.json").is_file():
            raise SourceInvalid(f"{path}: no oci-layout and index.json here")
        return cls(path, repository)

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See ManifestSource. An image without a name is the latest one, if it is the only one."""
        updated = datetime.fromtimestamp((self.root / "index.json").stat().st_mtime, UTC)
        named: dict[tuple[str, str], Descriptor] = {}
        entries = sorted(self._entries(), key=lambda each: _name(each[0], 0) is None)
        for entry, descriptor in entries:
            name = _name(entry, len(entries))
            if name is None:
                yield SourceTag(self._home(entry, named), "", str(descriptor.digest), updated)
                continue
            place = split_reference(name, self._home(entry))
            if named.get(place, descriptor) != descriptor:
                yield Finding(FindingKind.COLLISION, ":".join(place), "named twice; the last one counts")
            named[place] = descriptor
        for (repository, tag), descriptor in named.items():
            yield SourceTag(repository, tag, str(descriptor.digest), updated)

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """See ManifestSource."""
        return SourceManifest("", read_document(self._path(digest), f"{repository}@{digest}"))

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        """See ManifestSource."""
        return blob_file(self._path(digest), f"{repository}@{digest}")

    def _home(self, entry: Mapping[str, Any], named: Collection[tuple[str, str]] = ()) -> str:
        """Return the repository of an entry that names none: of what is about an image, that of the image."""
        left = annotations_of(entry).get(REPOSITORY)
        if isinstance(left, str) and any(left == repository for repository, _ in named):
            return left
        return self.repository or (left if isinstance(left, str) else "") or self.root.resolve().name

    def _entries(self) -> Iterator[tuple[Mapping[str, Any], Descriptor]]:
        """Yield what the index names.

        Raises:
            NoSource: it makes no sense.
        """
        path = self.root / "index.json"
        try:
            listed = json.loads(path.read_bytes())["manifests"]
            yield from [(entry, Descriptor.from_json(entry)) for entry in listed]
        except (ValueError, KeyError, TypeError, RecursionError, RegistryError) as error:
            raise SourceInvalid(f"{path}: no index of manifests ({error})") from error

    def _path(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.algorithm / digest.hex


def _name(entry: Mapping[str, Any], count: int) -> str | None:
    annotations = annotations_of(entry)
    found = next((annotations[key] for key in _NAMES if isinstance(annotations.get(key), str)), None)
    return found or ("latest" if count == 1 else None)
