"""A Docker archive that every release of ``docker load`` reads.

Docker since 1.10 reads ``manifest.json`` and configs; before, ``repositories`` and a folder for each V1
image, with its layer as an uncompressed tar. Equal content gives an equal file.

Source: moby, ``image/tarexport``; moby 0.7 to 1.9, ``graph/load.go``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryFile
from threading import Event

from dualreg.image.convert import chain_from_manifest
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import empty_layer, inflated
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.own_documents import read_document
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.stopping import Stopped
from dualreg.migrate.targets.base import Outgoing, SingleSteps
from dualreg.migrate.targets.tar_file import TarFile
from dualreg.registry import Registry
from dualreg.storage.base import read_chunks, tee

#: The two blocks of zeros at the end of an archive.
_END_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _V1Image:
    """A V1 image in the archive; *json* and *layer* are digests, unless its JSON was only computed."""

    id: str
    json: Digest | bytes
    layer: Digest | None
    diff_id: Digest | None


@dataclass(frozen=True, slots=True)
class _Image:
    config: bytes
    chain: Sequence[_V1Image]
    names: tuple[str, ...] = ()


class DockerArchiveTarget(SingleSteps):
    """A Target; images are written in the order of their tags, without those that daemons cannot load.

    Attributes:
        file: The archive.
    """

    takes_schema1 = False
    takes_v1 = False
    served = None
    renames = False
    one_by_one = True

    def __init__(self, file: TarFile, registry: Registry, stop: Event) -> None:
        """Write to *file*, until *stop* is set."""
        self.file, self._registry, self._stop = file, registry, stop
        self._images: dict[tuple[Digest, RepositoryName], _Image] = {}
        self._written: dict[str, tuple[Digest, Digest | None] | None] = {}

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        del repository, digest  # it is written with its image, uncompressed
        return source.size

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        for tag in tags:
            image = self._image(manifest, tag)
            self._write(image)
            key = Digest.of(image.config), manifest.repository
            known = self._images.get(key, image)
            self._images[key] = replace(known, names=(*known.names, f"{manifest.repository}:{tag}"))
        return bool(tags)

    def finish(self) -> None:
        entries, repositories = [], dict[str, dict[str, str]]()
        for key in sorted(self._images, key=str):
            image = self._images[key]
            layers = [f"{row.id}/layer.tar" for row in _with_files(image)]
            entries.append({"Config": _config_name(image), "RepoTags": sorted(image.names), "Layers": layers})
            for name in image.names:
                repository, _, tag = name.rpartition(":")
                repositories.setdefault(repository, {})[tag] = image.chain[-1].id
        if entries:
            self.file.add("manifest.json", json.dumps(entries).encode())
            self.file.add("repositories", json.dumps(repositories, sort_keys=True).encode())
            self.file.finish()
        else:
            self.file.abandon()

    @property
    def is_stream(self) -> bool:
        return not self.file.is_file

    def close(self) -> None:
        self.file.discard()

    def _image(self, manifest: Outgoing, tag: Tag) -> _Image:
        """Return the image that daemons load as the tag.

        Raises:
            Broken: they cannot load it, or it is incomplete.
        """
        repository, manifests = manifest.repository, self._registry.manifests
        chosen = manifests.image_of(repository, manifests.find(repository, manifest.digest))
        read = self._registry.bridge.chains.read_image(chosen) if chosen else None
        chain = read and (self._recorded(repository, tag) or self._computed(*read))
        if not read or not chain:
            text = "not an image that docker load can read"
            raise Broken(FindingKind.NO_PLACE, f"{repository}:{tag}", text)
        return _Image(read[1], chain)

    def _recorded(self, repository: RepositoryName, tag: Tag) -> list[_V1Image]:
        """Return the chain, base first, that V1 clients know the tag as; empty if none is recorded."""
        row = self._registry.manifests.peek(repository, tag)
        image = self._registry.bridge.view_of(row) if row else None
        rows = self._registry.v1_images.peek_ancestry(repository, image)[::-1] if image else ()
        return [_V1Image(row.id, row.json, row.layer, row.diff_id) for row in rows]

    @staticmethod
    def _computed(manifest: Manifest, config: bytes) -> list[_V1Image]:
        """Return the chain, base first, with the IDs that Docker 1.10 gives; empty if it is not an image."""
        chain = chain_from_manifest(manifest, config, empty_layer(), saved=True) or ()
        return [
            _V1Image(link.image.id, link.image.json, link.layer.digest, link.layer.diff_id) for link in chain
        ]

    def _write(self, image: _Image) -> None:
        """Write the V1 images of an image, and its config, unless they are in the archive already.

        Raises:
            Broken: a part is missing or damaged, or the archive has another image with the same id.
            Stopped: the export was asked to stop.
        """
        named = _with_files(image)
        for row in image.chain:
            if self._stop.is_set():
                raise Stopped
            digest = Digest.of(row.json) if isinstance(row.json, bytes) else row.json
            content = digest, row.diff_id
            if self._written.get(row.id, content) != content:
                raise Broken(
                    FindingKind.NO_PLACE, row.id, "the archive has another image with this id already"
                )
            if row.id not in self._written:
                self._write_v1_image(row, padded=row not in named)
                self._written[row.id] = content
        name = _config_name(image)
        if name not in self._written:
            self.file.add(name, image.config)
            self._written[name] = None

    def _write_v1_image(self, row: _V1Image, *, padded: bool) -> None:
        """Write a V1 image; its layer is decompressed to a temporary file first, to know its size.

        Args:
            padded: Whether an archive of no bytes gets its end: Docker 0.7 to 1.9 do not load it otherwise.
                Not for a layer that the config names, since that is compared with its diff ID.
        """
        if row.layer is None:
            raise Broken(FindingKind.NO_LAYER, row.id, "no layer")
        json_ = row.json if isinstance(row.json, bytes) else read_document(self._registry, row.json)
        hasher = Hasher()
        with TemporaryFile() as plain, self._registry.blobs.open(row.layer) as reader:
            plain.writelines(tee(inflated(read_chunks(reader), zstd=True), hasher.update))
            if hasher.digest() != row.diff_id:
                raise Broken(FindingKind.CORRUPT, str(row.layer), f"its diff ID is {hasher.digest()}")
            if padded and not plain.tell():
                plain.write(bytes(_END_BYTES))
            size = plain.tell()
            plain.seek(0)
            self.file.add(f"{row.id}/VERSION", b"1.0")
            self.file.add(f"{row.id}/json", json_)
            self.file.add(f"{row.id}/layer.tar", plain, size)


def _config_name(image: _Image) -> str:
    return f"{Digest.of(image.config).hex}.json"


def _with_files(image: _Image) -> list[_V1Image]:
    """Return the images of the chain whose layers the config names, in that order.

    Raises:
        Broken: it names a layer that none of them has.
    """
    rows, found = iter(image.chain), []
    for diff_id in json.loads(image.config)["rootfs"]["diff_ids"]:
        row = next((row for row in rows if str(row.diff_id) == diff_id), None)
        if row is None:
            raise Broken(FindingKind.CORRUPT, _config_name(image), f"no layer of the image is {diff_id}")
        found.append(row)
    return found
