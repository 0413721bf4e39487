"""Archives of ``docker save``: with ``manifest.json`` since Docker 1.10, with ``repositories`` before.

Source: moby, ``image/tarexport``; moby 0.7 to 1.9, ``graph/export.go``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

from dualreg.errors import ImageInvalid, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.layer import regzip
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.sources.archive import Archive
from dualreg.migrate.sources.base import SourceBytes, SourceImage, SourceInvalid, SourceTag
from dualreg.migrate.sources.references import split_reference
from dualreg.migrate.sources.streams import streamed
from dualreg.storage.base import read_chunks


@dataclass(frozen=True, slots=True)
class SavedImage:
    """A saved image.

    Attributes:
        diff_ids, layers: Base first.
    """

    config: bytes
    diff_ids: Sequence[Digest]
    layers: Sequence[SourceBytes]


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of ``manifest.json``.

    Attributes:
        id: The digest of the config; its file name if that file is missing, and empty if it is not named.
        names: Repository and tag, as in ``docker pull``.
        config, layers: Names of files in the archive.
    """

    id: str
    names: Sequence[str]
    config: str
    layers: Sequence[str]


@dataclass(frozen=True, slots=True)
class SavedImages:
    """An archive of Docker 1.10 or later, or of another tool that writes ``manifest.json``.

    Attributes:
        repository: The repository of images that name none.
    """

    MANIFEST: ClassVar[str] = "manifest.json"

    archive: Archive
    repository: str
    listed: Sequence[Listed]

    @classmethod
    def open(cls, archive: Archive, repository: str) -> Self:
        """Read ``manifest.json``.

        Raises:
            SourceInvalid: it is invalid.
        """
        try:
            entries = json.loads(archive.document(cls.MANIFEST))
            return cls(archive, repository, [_listed(archive, entry) for entry in entries])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceInvalid(f"invalid manifest.json: {error}") from error

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags and untagged images; a single image without a name is tagged ``latest``."""
        for each in self.listed:
            for name in each.names or (["latest"] if len(self.listed) == 1 else []):
                repository, tag = split_reference(name, self.repository)
                yield SourceTag(repository, tag, each.id, self.archive.updated)
            if not each.names and len(self.listed) > 1:
                yield SourceTag(self.repository, "", each.id, self.archive.updated)

    def image(self, id_: str) -> SavedImage:
        """Return the image whose config has the digest *id_*.

        Raises:
            Broken: a part of it is missing or damaged.
        """
        entry = next((each for each in reversed(self.listed) if each.id == id_), None)
        if entry is None:
            raise Broken(FindingKind.DANGLING, id_, "no such image")
        if not entry.config:
            raise Broken(FindingKind.CORRUPT, self.MANIFEST, "its entry names no config")
        try:
            config = self.archive.document(entry.config)
            diff_ids = [Digest.parse(text) for text in json.loads(config)["rootfs"]["diff_ids"]]
            layers = [self.archive.bytes_of(name) for name in entry.layers]
        except FileNotFoundError as error:
            raise Broken(FindingKind.NO_LAYER, id_, f"missing file {error}") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError, RegistryError) as error:
            raise Broken(FindingKind.CORRUPT, id_, f"invalid config: {error}") from error
        if len(diff_ids) != len(layers):
            raise Broken(
                FindingKind.CORRUPT, id_, f"it has {len(layers)} layers, but its config names {len(diff_ids)}"
            )
        return SavedImage(config, diff_ids, layers)


@dataclass(frozen=True, slots=True)
class SavedChains:
    """An archive of Docker before 1.10; a V1Source. Its uncompressed layers are compressed with gzip."""

    archive: Archive
    repository: str

    @classmethod
    def open(cls, archive: Archive, repository: str, path: Path) -> Self:
        """Return the images of the archive at *path*.

        Raises:
            SourceInvalid: it has none.
        """
        chains = cls(archive, repository)
        if not any(chains.image_ids()):
            hint = "; it is an OCI layout: unpack it and use oci-layout:" * ("oci-layout" in archive.members)
            raise SourceInvalid(f"{path}: no manifest.json, and no images of Docker before 1.10{hint}")
        return chains

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags; without ``repositories``, a single image without children is tagged ``latest``."""
        try:
            listed = json.loads(self.archive.document("repositories"))
            named = [(name, tag, str(id_)) for name, tags in listed.items() for tag, id_ in tags.items()]
        except FileNotFoundError:
            named = [(self.repository, "latest", top) for top in self._only_top()]
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise SourceInvalid(f"invalid file repositories: {error}") from error
        for name, tag, id_ in named:
            repository, tag_ = split_reference(f"{name}:{tag}", self.repository)
            yield SourceTag(repository, tag_, id_, self.archive.updated)

    def _only_top(self) -> Iterator[str]:
        """Yield the image without children, if there is only one."""
        images = dict[str, str | None]()
        for id_ in self.image_ids():
            with suppress(Broken):
                images[id_] = self.image(id_).parent
        tops = {*images} - {*images.values()}
        yield from tops if len(tops) == 1 else ()

    def image_ids(self) -> Iterator[str]:
        for name in self.archive.members:
            folder, _, last = name.partition("/")
            if last == "json":
                yield folder

    def image(self, id_: str) -> SourceImage:
        try:
            document = self.archive.document(f"{id_}/json")
            image = V1Image.parse(document)
            layer = self.archive.bytes_of(f"{id_}/layer.tar")
        except FileNotFoundError as error:
            raise Broken(FindingKind.NO_LAYER, id_, f"missing file {error}") from error
        except OSError as error:
            raise Broken(FindingKind.CORRUPT, id_, f"its JSON cannot be read: {error}") from error
        except ImageInvalid as error:
            raise Broken(FindingKind.CORRUPT, id_, f"its JSON cannot be read: {error.reason}") from error
        if image.id != id_:
            raise Broken(FindingKind.WRONG_ID, id_, f"its JSON has the id {image.id}")
        packed = SourceBytes(0, partial(compressed, layer), changed=layer.changed)
        return SourceImage(image.id, image.parent, lambda: document, packed)

    def ancestry(self, id_: str) -> Sequence[str] | None:
        del id_
        return None

    def agent(self, repository: str, tag: str) -> str:
        del repository, tag
        return ""

    def homes(self) -> Mapping[str, str]:
        """Return the repository of images that name none, for all images."""
        return dict.fromkeys(self.image_ids(), self.repository)


def _listed(archive: Archive, entry: Mapping[str, Any]) -> Listed:
    config = str(entry.get("Config") or "")
    try:
        id_ = str(Digest.of(archive.document(config)))
    except OSError:
        id_ = config
    names, layers = entry.get("RepoTags") or (), entry.get("Layers") or ()
    return Listed(id_, [*map(str, names)], config, [*map(str, layers)])


def compressed(layer: SourceBytes) -> BinaryIO:
    """Return a reader of a layer, compressed with gzip if it is not already."""
    with layer.open() as reader:
        head = reader.read(6)
    return layer.open() if Compression.sniff(head) is Compression.GZIP else streamed(_regzip(layer))


def _regzip(layer: SourceBytes) -> Iterator[bytes]:
    with layer.open() as reader:
        yield from regzip(read_chunks(reader))
