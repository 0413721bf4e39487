"""TarSum: the V1 checksum of an image's JSON and of the members of its layer, whatever the compression.

Clients compute it from what their tar library reads, which differs between releases: a matching sum proves
the layer, but a different one proves nothing.

Source: moby, ``pkg/tarsum``; its specification, ``tarsum_spec.md``.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cmp_to_key
from typing import NamedTuple

from dualreg.errors import ImageInvalid
from dualreg.image.tar import Member, members

_TARSUM = re.compile(r"tarsum(\.v1|\.dev)?\+sha256:([0-9a-f]{64})", re.ASCII)
#: Layers with more members are not summed: the sums are sorted in memory.
_ENTRIES_LIMIT = 500_000
#: Nor are those whose names are longer, all together, in bytes.
_NAMES_LIMIT = 32 << 20


class _Sum(NamedTuple):
    """The sum of one member; *position* is its index in the archive."""

    name: str
    digest: str
    position: int


def is_tarsum(text: str) -> bool:
    """Return whether *text* is a TarSum of a supported version: the first, v1 or dev."""
    return _TARSUM.fullmatch(text) is not None


def verify_tarsum(tarsum: str, json: bytes, layer: Iterable[bytes]) -> bool:
    """Return whether *tarsum* is the TarSum of an image, as computed by any release of Docker.

    Args:
        tarsum: With its version; see ``is_tarsum``.
        json: The image JSON, as sent.
        layer: The layer, as sent, of any compression.
    """
    match = _TARSUM.fullmatch(tarsum)
    if match is None:
        return False
    try:
        sums = [*_sums(layer, with_xattrs=match[1] is not None)]
    except ImageInvalid:
        return False
    for ordered in _orders(sums):
        total = hashlib.sha256(json)
        for sum_ in ordered:
            total.update(sum_.digest.encode())
        if total.hexdigest() == match[2]:
            return True
    return False


def _sums(layer: Iterable[bytes], *, with_xattrs: bool) -> Iterator[_Sum]:
    """Yield the sum of every member: of the names and values of its header, then of its content."""
    name, running, position, names = "", hashlib.sha256(), -1, 0
    for part in members(layer):
        if isinstance(part, memoryview):
            running.update(part)
            continue
        if position >= 0:
            yield _Sum(name, running.hexdigest(), position)
        position += 1
        names += len(part.header.name.encode("utf-8", "surrogateescape"))
        if position == _ENTRIES_LIMIT or names > _NAMES_LIMIT:
            raise ImageInvalid(reason="too many files to sum")
        name, running = part.header.name, hashlib.sha256(_header(part, with_xattrs=with_xattrs))
    if position >= 0:
        yield _Sum(name, running.hexdigest(), position)


def _header(member: Member, *, with_xattrs: bool) -> bytes:
    header = member.header
    values: dict[str, object] = {
        "name": header.name + ("/" if header.isdir() and not header.name.endswith("/") else ""),
        "mode": header.mode,
        "uid": header.uid,
        "gid": header.gid,
        "size": header.size,
        "mtime": int(header.mtime),
        "typeflag": header.type.decode("latin-1"),
        "linkname": header.linkname,
        "uname": header.uname,
        "gname": header.gname,
        "devmajor": header.devmajor,
        "devminor": header.devminor,
    }
    if with_xattrs:
        del values["mtime"]
    text = "".join(f"{name}{value}" for name, value in values.items()).encode("utf-8", "surrogateescape")
    if with_xattrs:
        for name, value in sorted(member.xattrs.items()):
            text += name.encode("utf-8", "surrogateescape") + value
    return text


def _orders(sums: list[_Sum]) -> Iterator[Iterable[_Sum]]:
    """Yield the sums in the order of each release of Docker; they differ if a name occurs twice."""
    yield sorted(sums, key=lambda sum_: sum_.digest)
    last = {sum_.name: sum_ for sum_ in sums}
    if len(last) == len(sums):
        return
    yield sorted(
        last.values(), key=lambda sum_: sum_.digest
    )  # up to 1.2, only the last member of a name counts
    yield sorted(sums, key=cmp_to_key(_compare))


def _compare(one: _Sum, other: _Sum) -> int:
    """Order as Docker since 1.3: by sum, but members of the same name by position."""
    if one.name == other.name:
        return one.position - other.position
    return (one.digest > other.digest) - (one.digest < other.digest)
