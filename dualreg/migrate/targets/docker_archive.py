"""A Docker archive, as every generation of ``docker load`` reads it.

Daemons since 1.10 read ``manifest.json`` and configs; those before, ``repositories`` and a folder for each V1
image, in which the layer of it is a plain tar. Equal content gives an equal file.

Source: moby, ``image/tarexport``; moby 0.7 to 1.9, ``graph/load.go``.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, BinaryIO

from dualreg.catalog.rows import V1ImageRow
from dualreg.errors import RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import DiffIdHasher, inflated
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import NoTarget, Outgoing
from dualreg.registry import Registry
from dualreg.storage.base import read_chunks, tap


@dataclass(frozen=True, slots=True)
class _Image:
    config: bytes
    chain: Sequence[V1ImageRow]
    names: tuple[str, ...]


class DockerArchiveTarget:
    """A Target; written when everything is known."""

    takes_schema1 = False
    renames = False

    def __init__(self, path: Path | None, registry: Registry, out: BinaryIO) -> None:
        """Write to *path*, or to *out*.

        Raises:
            NoTarget: *path* is in no folder.
        """
        if path and not path.absolute().parent.is_dir():
            raise NoTarget(f"{path.parent}: no such folder")
        self._path, self._registry, self._out = path, registry, out
        self._images: dict[tuple[Digest, RepositoryName], _Image] = {}
        self._lock = Lock()

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """See Target: nothing is sent before the end."""
        del repository, digest
        return source.size

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """See Target."""
        if not tags:
            return False
        repository = manifest.repository
        try:
            chosen = self._registry.manifests.image_of(
                repository, self._registry.manifests.find(repository, manifest.digest)
            )
            image = self._registry.bridge.resolve(repository, tags[0])
            chain = self._registry.v1_images.ancestry(repository, image)[::-1]
        except RegistryError as error:
            text = "no image that docker load reads"
            raise Broken(Kind.NO_PLACE, f"{repository}:{tags[0]}", text) from error
        if chosen is None or chosen.media_type not in media_types.IMAGES:
            raise Broken(Kind.NO_PLACE, f"{repository}:{tags[0]}", "no image that docker load reads")
        contents = stored_contents(chosen.media_type, self._registry.manifests.payload(chosen))
        config = next(child.descriptor for child in contents.children if child.role is Role.CONFIG)
        names = tuple(f"{repository}:{tag}" for tag in tags)
        with self._lock:
            known = self._images.get((config.digest, repository))
            self._images[config.digest, repository] = _Image(
                self._registry.manifests.payloads.read(config.digest),
                chain,
                (known.names if known else ()) + names,
            )
        return True

    def finish(self) -> None:
        """See Target: everything is written."""
        images = [self._images[key] for key in sorted(self._images, key=str)]
        if self._path is None:
            self._write(images, self._out)
            return
        fresh = self._path.with_name(f".{self._path.name}.part")
        try:
            with fresh.open("wb") as file:
                self._write(images, file)
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)

    def _write(self, images: Iterable[_Image], file: IO[bytes]) -> None:
        written: set[str] = set()
        entries, repositories = [], dict[str, dict[str, str]]()
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as out:
            for image in images:
                config = f"{Digest.of(image.config).hex}.json"
                for row in image.chain:
                    if row.id not in written:
                        self._write_image(out, row)
                        written.add(row.id)
                if config not in written:
                    _add(out, config, image.config)
                    written.add(config)
                layers = [f"{row.id}/layer.tar" for row in _with_files(image)]
                entries.append({"Config": config, "RepoTags": sorted(image.names), "Layers": layers})
                for name in image.names:
                    repository, _, tag = name.rpartition(":")
                    repositories.setdefault(repository, {})[tag] = image.chain[-1].id
            _add(out, "manifest.json", json.dumps(entries).encode())
            _add(out, "repositories", json.dumps(repositories, sort_keys=True).encode())

    def _write_image(self, out: tarfile.TarFile, row: V1ImageRow) -> None:
        """Write a V1 image; its layer passes through a temporary file, as a tar tells sizes first.

        Raises:
            Broken: the layer is not what it was when it came.
        """
        _add(out, f"{row.id}/VERSION", b"1.0")
        _add(out, f"{row.id}/json", self._registry.v1_images.json(row))
        if row.layer is None:
            raise Broken(Kind.NO_LAYER, row.id, "no layer")
        inside = DiffIdHasher()
        with TemporaryFile() as plain, self._registry.blobs.open(row.layer) as reader:
            plain.writelines(inflated(tap(read_chunks(reader), inside.update)))
            if inside.digest() != row.diff_id:
                raise Broken(Kind.CORRUPT, str(row.layer), f"its files are {inside.digest()}")
            member = tarfile.TarInfo(f"{row.id}/layer.tar")
            member.size = plain.tell()
            plain.seek(0)
            out.addfile(member, plain)


def _with_files(image: _Image) -> list[V1ImageRow]:
    """Return the images of the chain whose layers the config names, in its order."""
    wanted = json.loads(image.config)["rootfs"]["diff_ids"]
    rows = iter(image.chain)
    return [next(row for row in rows if str(row.diff_id) == diff_id) for diff_id in wanted]


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    out.addfile(member, io.BytesIO(content))
