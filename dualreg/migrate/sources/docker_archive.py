"""What ``docker save`` writes: a tar of images, by ``manifest.json`` since 1.10, by ``repositories`` before.

Source: moby, ``image/tarexport``; moby 0.7 to 1.9, ``graph/export.go``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from dualreg.errors import ImageInvalid, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.layer import Compression, regzip
from dualreg.image.v1_image import V1Image
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.sources.archive import Archive
from dualreg.migrate.sources.base import SourceBytes, SourceImage, SourceInvalid, SourceTag
from dualreg.migrate.sources.references import split_reference
from dualreg.migrate.sources.streams import streamed
from dualreg.storage.base import read_chunks


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image as it was saved.

    Attributes:
        diff_ids: Of the layers, base first.
    """

    config: bytes
    diff_ids: Sequence[Digest]
    layers: Sequence[SourceBytes]


@dataclass(frozen=True, slots=True)
class Listed:
    """What ``manifest.json`` says of an image.

    Attributes:
        id: The digest of its config; if that is not there, what it should be called.
        config, layers: Names of files.
    """

    id: str
    names: Sequence[str]
    config: str
    layers: Sequence[str]


@dataclass(frozen=True, slots=True)
class SavedImages:
    """An archive of Docker 1.10 or later, or of whoever writes the same."""

    archive: Archive
    repository: str
    listed: Sequence[Listed]

    @classmethod
    def open(cls, archive: Archive, repository: str) -> "SavedImages":
        """Read ``manifest.json``.

        Raises:
            NoSource: it makes no sense.
        """
        try:
            entries = json.loads(archive.document("manifest.json"))
            return cls(archive, repository, [_listed(archive, entry) for entry in entries])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceInvalid(f"manifest.json: it makes no sense ({error})") from error

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags, and images without one; the only image that has none is the latest."""
        for each in self.listed:
            for name in each.names or (["latest"] if len(self.listed) == 1 else []):
                repository, tag = split_reference(name, self.repository)
                yield SourceTag(repository, tag, each.id, self.archive.updated)
            if not each.names and len(self.listed) > 1:
                yield SourceTag(self.repository, "", each.id, self.archive.updated)

    def image(self, id_: str) -> SavedImage:
        """Return an image by its id, the digest of its config.

        Raises:
            Broken: it lacks something, or is not what it is called.
        """
        entry = next((each for each in reversed(self.listed) if each.id == id_), None)
        if entry is None:
            raise Broken(FindingKind.DANGLING, id_, "no such image")
        try:
            config = self.archive.document(entry.config)
            diff_ids = [Digest.parse(text) for text in json.loads(config)["rootfs"]["diff_ids"]]
            layers = [self.archive.bytes_of(name) for name in entry.layers]
        except FileNotFoundError as error:
            raise Broken(FindingKind.NO_LAYER, id_, f"there is no {error}") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError, RegistryError) as error:
            raise Broken(FindingKind.CORRUPT, id_, f"its config makes no sense ({error})") from error
        if len(diff_ids) != len(layers):
            raise Broken(FindingKind.CORRUPT, id_, f"{len(layers)} layers, and {len(diff_ids)} in its config")
        return SavedImage(config, diff_ids, layers)


@dataclass(frozen=True, slots=True)
class SavedChains:
    """An archive of Docker before 1.10; a V1Source. Its layers are plain tars, and come in as gzip."""

    archive: Archive
    repository: str

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See V1Source. Without ``repositories``, the only image on which no other stands is the latest."""
        try:
            listed = json.loads(self.archive.document("repositories"))
            named = [(name, tag, str(id_)) for name, tags in listed.items() for tag, id_ in tags.items()]
        except FileNotFoundError:
            named = [(self.repository, "latest", top) for top in self._only_top()]
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise SourceInvalid(f"repositories: it makes no sense ({error})") from error
        for name, tag, id_ in named:
            repository, tag_ = split_reference(f"{name}:{tag}", self.repository)
            yield SourceTag(repository, tag_, id_, self.archive.updated)

    def _only_top(self) -> Iterator[str]:
        """Yield the image on which no other stands, if there is just one."""
        images = dict[str, str | None]()
        for id_ in self.image_ids():
            with suppress(Broken):
                images[id_] = self.image(id_).parent
        tops = {*images} - {*images.values()}
        yield from tops if len(tops) == 1 else ()

    def image_ids(self) -> Iterator[str]:
        """See V1Source."""
        for name in self.archive.members:
            folder, _, last = name.partition("/")
            if last == "json":
                yield folder

    def image(self, id_: str) -> SourceImage:
        """See V1Source."""
        try:
            document = self.archive.document(f"{id_}/json")
            image = V1Image.parse(document)
            layer = self.archive.bytes_of(f"{id_}/layer.tar")
        except FileNotFoundError as error:
            raise Broken(FindingKind.NO_LAYER, id_, f"there is no {error}") from error
        except (OSError, ImageInvalid) as error:
            raise Broken(FindingKind.CORRUPT, id_, f"its JSON cannot be read ({error})") from error
        if image.id != id_:
            raise Broken(FindingKind.WRONG_ID, id_, f"its JSON says that it is {image.id}")
        packed = SourceBytes(0, partial(compressed, layer), changed=layer.changed)
        return SourceImage(image.id, image.parent, lambda: document, packed)

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """See V1Source: no list is kept."""
        del id_
        return None

    def homes(self) -> Mapping[str, str]:
        """See V1Source: no list is kept, but there is one name for all that have none."""
        return dict.fromkeys(self.image_ids(), self.repository)


def open_archive(path: Path, repository: str) -> SavedImages | SavedChains:
    """Return the images that were saved to *path*.

    Args:
        repository: What images are in that say none; empty: called like the file.

    Raises:
        NoSource: it is no such archive.
    """
    archive = Archive.open(path)
    repository = repository or path.name.partition(".")[0]
    if "manifest.json" in archive.members:
        return SavedImages.open(archive, repository)
    chains = SavedChains(archive, repository)
    if not any(chains.image_ids()):
        hint = (
            "; it holds an OCI layout: unpack it, for oci-layout:" if "oci-layout" in archive.members else ""
        )
        raise SourceInvalid(f"{path}: no manifest.json, and no images of old daemons{hint}")
    return chains


def _listed(archive: Archive, entry: Mapping[str, Any]) -> Listed:
    config = str(entry["Config"])
    try:
        id_ = str(Digest.of(archive.document(config)))
    except OSError:
        id_ = config
    names, layers = entry.get("RepoTags") or (), entry.get("Layers") or ()
    return Listed(id_, [*map(str, names)], config, [*map(str, layers)])


def compressed(layer: SourceBytes) -> BinaryIO:
    """Return a reader of a layer as gzip; one that is gzip already is left as it is."""
    with layer.open() as reader:
        head = reader.read(6)
    return layer.open() if Compression.sniff(head) is Compression.GZIP else streamed(_regzip(layer))


def _regzip(layer: SourceBytes) -> Iterator[bytes]:
    with layer.open() as reader:
        yield from regzip(read_chunks(reader))
