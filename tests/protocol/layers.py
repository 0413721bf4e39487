"""Layers as the old daemons wrote and stored them, and what a client finds inside one."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Mapping

from tests import builders
from tests.protocol.clients.tarsum import unpacked

#: A name, and what unpacking it does: a file's content, a link's target, a folder, something taken away.
Files = Mapping[str, tuple[str, bytes]]
#: What Docker up to 1.2 sent for a step that changed no file: the gzip of nothing at all.
EMPTY_OF_23_BYTES = bytes.fromhex("1f8b080000096e8800ff010000ffff0000000000000000")


def files(layer: bytes) -> Files:
    """Return what *layer* does to a file system; nothing for a blank one."""
    tar = unpacked(layer)
    if not tar.strip(b"\0"):
        return {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {member.name: _effect(archive, member) for member in archive}


def _effect(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, bytes]:
    if member.name.rpartition("/")[2].startswith(".wh."):
        return "whiteout", b""
    if member.isdir():
        return "folder", b""
    content = archive.extractfile(member) if member.isreg() else None
    return ("file", content.read()) if content else ("link", member.linkname.encode())


def go_gzip(data: bytes) -> bytes:
    """Compress as Go of the time did, whose times in the header are of a year that never was."""
    packed = gzip.compress(data, mtime=0)
    return packed[:4] + bytes.fromhex("00096e8800ff") + packed[10:]


def unended(tar: bytes) -> bytes:
    """Return *tar* without the blocks of zeros that end one, as some old daemons left it."""
    kept = len(tar.rstrip(b"\0"))
    return tar[: -(-kept // 512) * 512]


NO_END = go_gzip(unended(builders.tar({"bin/sh": b"#!" + bytes(range(256)) * 40, "etc/host": b"old\n"})))
AUFS = go_gzip(
    builders.tar(
        {
            ".wh..wh.aufs": b"",
            ".wh..wh.plnk/1.2": b"",
            ".wh..wh.orph/x": b"",
            "etc/.wh.host": b"",
            "var/.wh..wh..opq": b"",
            "var/new": b"new\n",
        }
    )
)
PLAIN = builders.tar({"etc/plain": b"plain\n"})
XZ = lzma.compress(builders.tar({"etc/xz": b"xz\n"}))
BZIP2 = bz2.compress(builders.tar({"etc/bzip2": b"bzip2\n"}))
#: What an old daemon pushes: base first, with a blank step.
OLD_LAYERS = (NO_END, AUFS, EMPTY_OF_23_BYTES, go_gzip(builders.tar({"etc/issue": b"top\n"})))
