"""Inventories: lists of blobs, as a registry has them, or as they are in volumes.

A text of lines, each of a blob: its digest, its size in bytes, and the numbers of the volumes that it is in::

    # dualreg inventory 1
    sha256:9d75… 1470 1
    sha256:17e0… 9663676416 1 2 3
    sha256:4b5e… 20480 -

The inventory of a registry names no volumes; ``-`` stands for a blob that was left out of the volumes. The
last line of an inventory of volumes says how many there are: ``# volumes 3``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest

_FIRST = "# dualreg inventory 1"
_VOLUMES = re.compile(r"# volumes ([0-9]{1,6})", re.ASCII)
_BLOB = re.compile(r"(\S+) ([0-9]{1,18})((?: [0-9]{1,6})*| -)", re.ASCII)


class Held(NamedTuple):
    """A blob of an inventory: its size, and the volumes that it is in, in order; none: it is elsewhere."""

    size: int
    volumes: tuple[int, ...] = ()


@dataclass
class Inventory:
    """Blobs by digest, and the number of volumes, which are counted from 1."""

    blobs: dict[Digest, Held] = field(default_factory=dict)
    volumes: int = 0

    def lines(self) -> Iterator[str]:
        """Yield the lines of the inventory of volumes."""
        yield f"{_FIRST}\n"
        for digest, held in self.blobs.items():
            yield f"{digest} {held.size} {' '.join(map(str, held.volumes)) or '-'}\n"
        yield f"# volumes {self.volumes}\n"


def registry_lines(blobs: Iterable[tuple[Digest, int]]) -> Iterator[str]:
    """Yield the lines of the inventory of a registry, which has *blobs* of these sizes."""
    yield f"{_FIRST}\n"
    yield from (f"{digest} {size}\n" for digest, size in blobs)


def read_inventory(lines: Iterable[str]) -> Inventory:
    """Return the inventory in *lines*.

    Raises:
        ValueError: it is none, or a line is malformed; names it.
    """
    found = Inventory()
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if number == 1 and text != _FIRST:
            raise ValueError(f'not an inventory: expected "{_FIRST}" in the first line')
        if volumes := _VOLUMES.fullmatch(text):
            found.volumes = int(volumes[1])
        elif text and not text.startswith("#"):
            digest, held = _read_blob(text, number)
            found.blobs[digest] = held
    return found


def _read_blob(text: str, number: int) -> tuple[Digest, Held]:
    match = _BLOB.fullmatch(text)
    try:
        digest = Digest.parse(match[1]) if match else None
    except RegistryError:
        digest = None
    if not (match and digest):
        raise ValueError(f"line {number} of the inventory: expected DIGEST SIZE, and numbers of volumes")
    volumes = () if match[3] == " -" else tuple(map(int, match[3].split()))
    return digest, Held(int(match[2]), volumes)
