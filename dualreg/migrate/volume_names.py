"""Names in a folder of volumes: an OCI layout whose blobs are in tar archives of a limited size.

    oci-layout, index.json     as in any layout
    v1-images.json             the V1 images that manifests were made of, if there are any
    inventory                  which blobs there are, and in which volumes
    volume-0001.tar, …         blobs/ALGORITHM/HEX, and blobs/ALGORITHM/HEX.part-0001, … of a larger one

When all volumes are extracted to the folder, and parts are joined, it is an ordinary layout.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dualreg.image.digest import Digest

INVENTORY = "inventory"
_VOLUME = re.compile(r"volume-([0-9]{4,6})\.tar", re.ASCII)


def volume_name(number: int) -> str:
    """Return the file name of a volume."""
    return f"volume-{number:04}.tar"


def volume_numbers(folder: Path) -> Iterator[int]:
    """Yield the numbers of the volumes in a folder."""
    return (int(match[1]) for path in folder.iterdir() if (match := _VOLUME.fullmatch(path.name)))


def member_name(digest: Digest, part: int = 0) -> str:
    """Return the name of a blob in a volume, or of one part of it, counted from 1."""
    name = f"blobs/{digest.algorithm}/{digest.hex}"
    return f"{name}.part-{part:04}" if part else name
