"""Layers of saved images."""

from typing import BinaryIO

from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.layer import read_diff_id
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.transfer import reading
from dualreg.storage.base import read_chunks


def diff_id_of(reader: BinaryIO, where: str) -> Digest:
    """Read a layer, compressed or not, and return its diff ID.

    Raises:
        Broken: it cannot be read or decompressed.
    """
    try:
        with reader, reading(where):
            return read_diff_id(read_chunks(reader), zstd=True)[0]
    except ImageInvalid as error:
        raise Broken(FindingKind.CORRUPT, where, error.reason) from error
