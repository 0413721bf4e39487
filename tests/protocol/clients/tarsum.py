"""TarSum, the checksum of V1: of an image's JSON and of what its layer holds, however that is compressed."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile

_READERS = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress, b"\xfd7": lzma.decompress}


def unpacked(layer: bytes) -> bytes:
    """Return the tar inside *layer*."""
    return _READERS.get(layer[:2], bytes)(layer)


def tarsum(document: bytes, layer: bytes) -> str:
    """Return the first version of the checksum, as every Docker from 0.6 to 1.9 sends it.

    The sorted sums of all entries follow the JSON; an entry's sum is over its headers' names and values, in
    this order, and its content.
    """
    sums: list[str] = []
    tar = unpacked(layer)
    if tar.strip(b"\0"):
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            sums = [_entry(archive, member) for member in archive]
    return "tarsum+sha256:" + hashlib.sha256(document + "".join(sorted(sums)).encode()).hexdigest()


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    headers = {
        "name": member.name + ("/" if member.isdir() else ""),
        "mode": member.mode,
        "uid": member.uid,
        "gid": member.gid,
        "size": member.size,
        "mtime": int(member.mtime),
        "typeflag": member.type.decode(),
        "linkname": member.linkname,
        "uname": member.uname,
        "gname": member.gname,
        "devmajor": member.devmajor,
        "devminor": member.devminor,
    }
    sum_ = hashlib.sha256("".join(f"{name}{value}" for name, value in headers.items()).encode())
    if member.isreg() and (content := archive.extractfile(member)):
        sum_.update(content.read())
    return sum_.hexdigest()
