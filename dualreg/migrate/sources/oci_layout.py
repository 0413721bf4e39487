"""An OCI image layout: ``oci-layout``, ``index.json`` and ``blobs``.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dualreg.errors import ImageInvalid, RegistryError
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.oci_annotations import NAME, REPOSITORY, annotations_of
from dualreg.migrate.sources.base import (
    OfV2Clients,
    SourceBytes,
    SourceImage,
    SourceInvalid,
    SourceManifest,
    SourceTag,
    lost_tag,
)
from dualreg.migrate.sources.files import read_file
from dualreg.migrate.sources.layout_files import FolderFiles, LayoutFiles, VolumeFiles
from dualreg.migrate.sources.references import split_reference
from dualreg.migrate.v1_carried import V1_IMAGES, CarriedImages
from dualreg.storage.base import Keeps
from dualreg.storage.names import V1Name

#: Bytes of the largest index that is read, and of the largest list of V1 images.
_INDEX_LIMIT, _V1_LIMIT = 64 << 20, 512 << 20
#: Annotations with the name of an image: containerd's, which includes the repository; and the standard one.
_NAMES = ("io.containerd.image.name", NAME)


@dataclass(frozen=True, slots=True)
class OciLayout(OfV2Clients):
    """A layout; a ManifestSource.

    Attributes:
        files: Where its blobs are.
        repository: The repository of images that are named by a tag only; empty: the one that they were
            exported from, if that was recorded, or the name of the folder.
        v1_images: Those that manifests were made of.
    """

    root: Path
    files: LayoutFiles
    repository: str
    v1_images: CarriedImages = field(default_factory=CarriedImages)

    @classmethod
    def open(cls, path: Path, repository: str, *, volumes: bool = False) -> "OciLayout":
        """Return the layout at *path*.

        Args:
            volumes: Whether its blobs are in volumes.

        Raises:
            SourceInvalid: it is not a layout, or what it says of V1 images is invalid.
        """
        if not (path / "oci-layout").is_file() or not (path / "index.json").is_file():
            raise SourceInvalid(f"{path}: not an OCI layout: no oci-layout and index.json")
        if not volumes:
            return cls(path, FolderFiles(path), repository)
        return cls(path, VolumeFiles.open(path), repository, _carried(path))

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags and untagged manifests; a single image without a name is tagged ``latest``."""
        yield from self.files.findings()
        updated = datetime.fromtimestamp((self.root / "index.json").stat().st_mtime, UTC)
        named: dict[tuple[str, str], Descriptor] = {}
        entries = sorted(self._entries(), key=lambda entry: _name(entry, 0) is None)
        for entry in entries:
            name = _name(entry, len(entries))
            place = split_reference(name, self._home(entry)) if name else (self._home(entry, named), "")
            try:
                descriptor = Descriptor.from_json(entry)
            except RegistryError as error:
                yield lost_tag(FindingKind.CORRUPT, *place, f"invalid entry of the index: {error}")
                continue
            if name is None:
                yield SourceTag(place[0], "", str(descriptor.digest), updated)
                continue
            if named.get(place, descriptor) != descriptor:
                yield Finding(
                    FindingKind.COLLISION,
                    ":".join(place),
                    "duplicate name in the index; the last one is used",
                )
            named[place] = descriptor
        for (repository, tag), descriptor in named.items():
            yield SourceTag(repository, tag, str(descriptor.digest), updated)

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        return SourceManifest("", self.files.document(digest, f"{repository}@{digest}"))

    def is_store(self, keeps: Keeps) -> bool:
        del keeps
        return False

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        return self.files.blob(digest, f"{repository}@{digest}")

    def v1_chain(self, repository: str, digest: Digest) -> tuple[SourceImage, ...]:
        try:
            chain = self.v1_images.chain(repository, digest)
        except ValueError as error:
            raise Broken(FindingKind.LOST_V1, f"{repository}@{digest}", str(error)) from error
        return tuple(self._v1_image(f"{repository} image {each.id}", each) for each in chain)

    def _v1_image(self, where: str, image: V1Name) -> SourceImage:
        """Return an image, whose JSON is read when it is needed: its volume may be missing."""

        def json() -> bytes:
            content = self.files.document(image.json, where)
            try:
                found = V1Image.parse(content)
            except ImageInvalid as error:
                raise Broken(FindingKind.LOST_V1, where, error.reason) from error
            same = (found.id, found.parent) == (image.id, image.parent)
            if not same or Digest.of(content) != image.json:
                raise Broken(FindingKind.CORRUPT, where, "its JSON is not the one that was exported")
            return content

        layer, stated = self.files.blob(image.layer, where), filter(None, (image.checksum, image.tarsum))
        return SourceImage(
            image.id,
            image.parent,
            json,
            layer,
            checksums=tuple(map(str, stated)),
            recorded=image,
            left_out=self.files.lacks(image.layer),
        )

    def _home(self, entry: Mapping[str, Any], named: Collection[tuple[str, str]] = ()) -> str:
        """Return the repository of an entry that names none.

        Args:
            named: The named images. A manifest about one of them is in its repository.
        """
        left = annotations_of(entry).get(REPOSITORY)
        if isinstance(left, str) and any(left == repository for repository, _ in named):
            return left
        return self.repository or (left if isinstance(left, str) else "") or self.root.resolve().name

    def _entries(self) -> list[Mapping[str, Any]]:
        """Return the entries of the index.

        Raises:
            SourceInvalid: it is invalid.
        """
        path = self.root / "index.json"
        try:
            listed = json.loads(read_file(path, self.root, _INDEX_LIMIT)[0])["manifests"] or ()
            return [entry if isinstance(entry, dict) else {} for entry in listed]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise SourceInvalid(f"{path}: invalid index: {error}") from error


def _name(entry: Mapping[str, Any], count: int) -> str | None:
    annotations = annotations_of(entry)
    found = next((annotations[key] for key in _NAMES if isinstance(annotations.get(key), str)), None)
    return found or ("latest" if count == 1 else None)


def _carried(root: Path) -> CarriedImages:
    """Return the V1 images in a folder of volumes.

    Raises:
        SourceInvalid: the file that lists them is invalid.
    """
    path = root / V1_IMAGES
    try:
        return CarriedImages.parse(read_file(path, root, _V1_LIMIT)[0])
    except FileNotFoundError:
        return CarriedImages()
    except (OSError, ValueError) as error:
        raise SourceInvalid(f"{path}: {error}") from error
