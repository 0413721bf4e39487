"""Volumes: an OCI layout whose blobs are in tar archives of a limited size, for another registry.

Documents keep their bytes, so that all digests stay; only schema 1 is converted. What is complete in the
folder is not written again: an interrupted export goes on, and a later one adds volumes with what is new.
"""

import fcntl
import os
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.inventory import Held, Inventory, read_inventory
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, SingleSteps, TargetInvalid, check_folder
from dualreg.migrate.targets.files import write, write_if_changed
from dualreg.migrate.targets.layout_index import LayoutIndex
from dualreg.migrate.targets.volume_writer import VolumeWriter
from dualreg.migrate.v1_carried import V1_IMAGES, CarriedImages
from dualreg.migrate.volume_names import INVENTORY, volume_name, volume_numbers
from dualreg.ownership import make_folders


class VolumesTarget(SingleSteps):
    """A Target; existing volumes stay as they are, and nothing is written before the first blob."""

    takes_schema1 = False
    takes_v1 = True
    served = None
    renames = False
    one_by_one = True
    is_stream = False

    def __init__(
        self, folder: Path, repositories: Sequence[str], *, limit: int = 0, have: Collection[Digest] = ()
    ) -> None:
        """Write to *folder*.

        Args:
            repositories: Those of all tags that will be exported.
            limit: The size of a volume in bytes, at most; 0: any size.
            have: Blobs that are left out.

        Raises:
            TargetInvalid: it is not a folder, or its inventory is invalid.
        """
        check_folder(folder)
        self._folder, self._repositories, self._limit, self._have = folder, repositories, limit, have
        _read(folder)

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        del repository
        if digest in self._have:
            return self._volumes.leave_out(digest, source.size)
        return self._volumes.add(digest, source)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        described = Descriptor(manifest.media_type, manifest.digest, len(manifest.payload))
        sent = self._volumes.add(manifest.digest, SourceBytes.of(manifest.payload))
        images = manifest.v1_images
        sent += sum(self._volumes.add(name.json, SourceBytes.of(json)) for name, json in images)
        if images:
            names = [name for name, _ in images]
            sent += self._carried.add(manifest.repository, manifest.digest, names)
        return self._index.add(manifest, described, tags) or bool(sent)

    def finish(self) -> None:
        self._volumes.finish()
        self._index.save()
        if self._carried.repositories:
            write_if_changed(self._folder / V1_IMAGES, self._carried.serialize())

    def close(self) -> None:
        if opened := vars(self).pop("_volumes", None):
            opened.close()

    @cached_property
    def _volumes(self) -> "_Volumes":
        """The volumes, locked until ``close``."""
        make_folders(self._folder, 0o777)  # the operator's own, by the umask
        return _Volumes(self._folder, self._limit)

    @cached_property
    def _carried(self) -> CarriedImages:
        """The V1 images of this export and of earlier ones.

        Raises:
            TargetInvalid: the file of these is invalid.
        """
        path = self._folder / V1_IMAGES
        try:
            return CarriedImages.parse(path.read_bytes()) if path.exists() else CarriedImages()
        except ValueError as error:
            raise TargetInvalid(f"{path}: {error}") from error

    @cached_property
    def _index(self) -> LayoutIndex:
        return LayoutIndex(self._folder, self._repositories)


class _Volumes:
    """The volumes of a folder, and the inventory of them, which is written when volumes are complete."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Go on where the last export has ended.

        Raises:
            TargetInvalid: another export writes to the folder, or its inventory is invalid.
        """
        self._folder, self._lock = folder, _locked(folder)
        try:
            self._inventory = _read(folder)
            _clean(folder, self._inventory.volumes)
        except (TargetInvalid, OSError):
            os.close(self._lock)
            raise
        self._writer = VolumeWriter(folder, limit, self._inventory.volumes, self._note)
        self._written: dict[Digest, Held] = {}
        self._note()

    def add(self, digest: Digest, source: SourceBytes) -> int:
        """Write a blob unless it is in a volume; return how many bytes were written.

        Raises:
            Broken, OSError, TargetInvalid: as of ``VolumeWriter.add``.
        """
        known = self._written.get(digest) or self._inventory.blobs.get(digest)
        if known and known.volumes:
            return 0
        self._written[digest] = Held(source.size, self._writer.add(digest, source))
        return source.size

    def leave_out(self, digest: Digest, size: int) -> int:
        """List a blob that is left out, unless it is in a volume; return 0."""
        self._inventory.blobs.setdefault(digest, Held(size))
        return 0

    def finish(self) -> None:
        """Complete the last volume, and the inventory."""
        self._writer.close()
        self._note()

    def close(self) -> None:
        """Discard what is not complete."""
        self._writer.discard()
        os.close(self._lock)

    def _note(self) -> None:
        """Write which blobs are in complete volumes; not while parts of one are in those alone."""
        if self._writer.in_parts:
            return
        self._inventory.blobs |= self._written
        self._written.clear()
        self._inventory.volumes = self._writer.complete
        write(self._folder / INVENTORY, (line.encode() for line in self._inventory.lines()))


def _locked(folder: Path) -> int:
    """Return a descriptor of the folder, which is locked until that is closed.

    Raises:
        TargetInvalid: another export writes to it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise TargetInvalid(f"{folder}: another export writes to it") from error
    return descriptor


def _read(folder: Path) -> Inventory:
    """Return the inventory of a folder; that of a new one is empty.

    Raises:
        TargetInvalid: it is invalid, or there are volumes without one.
    """
    path = folder / INVENTORY
    if not path.exists():
        if folder.is_dir() and any(True for _ in volume_numbers(folder)):
            raise TargetInvalid(f"{folder}: there are volumes, but no {INVENTORY}")
        return Inventory()
    try:
        with path.open(encoding="ascii") as lines:
            return read_inventory(lines)
    except (OSError, ValueError) as error:
        raise TargetInvalid(f"{path}: {error}") from error


def _clean(folder: Path, complete: int) -> None:
    """Remove what an interrupted export has left: volumes that its inventory does not list."""
    for number in [*volume_numbers(folder)]:
        if number > complete:
            (folder / volume_name(number)).unlink()
    for path in folder.glob(".volume-*"):
        path.unlink()
