"""Archives as they pass by: entries, sums and listings, against tarfile and a second implementation."""

import bz2
import contextlib
import hashlib
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Iterator, Sequence
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualreg.errors import ImageInvalid
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.listing import File, changes, dump_files, files
from dualreg.image.tar import Member, members
from dualreg.image.tarsum import is_tarsum, verify_tarsum
from tests import builders
from tests.protocol.clients.tarsum import tarsum, unpacked
from tests.protocol.layers import AUFS, EMPTY_OF_23_BYTES, NO_END, PLAIN, go_gzip, unended

JSON = b'{"id": "x"}\n'
_KINDS = [
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
]
_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=200)
_ENTRY = st.tuples(
    _NAME, st.sampled_from(_KINDS), st.binary(max_size=1500), st.integers(0, 2**40), st.integers(0, 2**22)
)


def archive(entries: Sequence[tuple[str, bytes, bytes, int, int]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive of entries: name, kind, content, time, owner."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as target:
        for name, kind, content, time, owner in entries:
            header = tarfile.TarInfo(name)
            header.type, header.mtime, header.uid, header.linkname = kind, time, owner, name * 2
            header.size = len(content) if kind == tarfile.REGTYPE else 0
            target.addfile(header, io.BytesIO(content))
    return out.getvalue()


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Yield *data* in pieces."""
    return (data[at : at + size] for at in range(0, len(data), size))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_ENTRY, max_size=4),
    st.integers(1, 2000),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_are_those_that_tarfile_reads(
    entries: list[tuple[str, bytes, bytes, int, int]], size: int, form: int
) -> None:
    """Same headers and contents, however the bytes come in; the sum is that of another implementation."""
    data = archive(entries, form)
    read: list[tuple[tarfile.TarInfo, bytes]] = []
    for part in members(pieces(data, size)):
        if isinstance(part, Member):
            read.append((part.header, b""))
        else:
            read[-1] = (read[-1][0], read[-1][1] + bytes(part))
    with tarfile.open(fileobj=io.BytesIO(data)) as wanted:
        for (header, content), member in zip(read, wanted, strict=True):
            for name in ("name", "linkname", "size", "mtime", "mode", "uid", "gid", "type", "devmajor"):
                assert getattr(header, name) == getattr(member, name)
            stored = wanted.extractfile(member) if member.isreg() else None
            assert content == (stored.read() if stored else b"")
    assert verify_tarsum(tarsum(JSON, data), JSON, pieces(data, size))


@pytest.mark.parametrize(
    "layer",
    [NO_END, AUFS, PLAIN, EMPTY_OF_23_BYTES, EMPTY_LAYER, b"", bz2.compress(PLAIN), lzma.compress(PLAIN)],
    ids=["no end", "aufs", "plain", "gzip of nothing", "empty", "nothing", "bzip2", "xz"],
)
def test_a_layer_of_the_era_has_its_sum(layer: bytes) -> None:
    """Whatever its compression and its end; and no other JSON or layer has it."""
    stated = tarsum(JSON, layer)
    assert verify_tarsum(stated, JSON, [layer])
    assert not verify_tarsum(stated, JSON + b" ", [layer])
    assert not verify_tarsum(stated, JSON, [builders.layer({"other": b""})])


def test_the_sum_of_the_empty_layer_is_the_one_that_daemons_computed() -> None:
    """A layer without entries has the sum of its JSON.  (Measured on Docker 0.6 to 1.9.)"""
    stated = "tarsum+sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert verify_tarsum(stated, b"abc", [EMPTY_LAYER])


def _xattrs(time: int, value: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as target:
        header = tarfile.TarInfo("file")
        header.mtime, header.pax_headers = time, {"SCHILY.xattr.user.b": value, "SCHILY.xattr.a": "1"}
        target.addfile(header)
    return out.getvalue()


@pytest.mark.parametrize("version", ["tarsum.v1", "tarsum.dev"])
def test_later_versions_sum_attributes_instead_of_times(version: str) -> None:
    """By name, behind everything else.  Source: moby, ``pkg/tarsum/versioning.go``."""
    header = b"namefilemode420uid0gid0size0typeflag0linknameunamegnamedevmajor0devminor0a1user.b\xc3\xa9"
    sum_ = hashlib.sha256(header).hexdigest()
    stated = f"{version}+sha256:{hashlib.sha256(JSON + sum_.encode()).hexdigest()}"
    assert is_tarsum(stated)
    for time in (1, 2):
        assert verify_tarsum(stated, JSON, [_xattrs(time, "\xe9")])
    assert not verify_tarsum(stated, JSON, [_xattrs(1, "e")])


def test_a_name_that_occurs_twice_counts_as_each_release_has_it() -> None:
    """All of them, only the last, or those of one name in the archive's order."""
    data = archive([(name, tarfile.REGTYPE, content, 0, 0) for name, content in (("a", b"1"), ("a", b"2"))])
    alone = [archive([("a", tarfile.REGTYPE, content, 0, 0)]) for content in (b"1", b"2")]
    assert verify_tarsum(tarsum(JSON, data), JSON, [data])
    assert verify_tarsum(tarsum(JSON, alone[1]), JSON, [data])
    assert not verify_tarsum(tarsum(JSON, alone[0]), JSON, [data])
    one = hashlib.sha256(
        b"nameamode420uid0gid0size1mtime0typeflag0linknameaaunamegnamedevmajor0devminor01"
    ).hexdigest()
    two = hashlib.sha256(
        b"nameamode420uid0gid0size1mtime0typeflag0linknameaaunamegnamedevmajor0devminor02"
    ).hexdigest()
    in_order = f"tarsum+sha256:{hashlib.sha256(JSON + (one + two).encode()).hexdigest()}"
    assert verify_tarsum(in_order, JSON, [data])
    assert not verify_tarsum("tarsum.v9+sha256:" + "0" * 64, JSON, [data])


def _sparse(content: bytes, blocks: int) -> bytes:
    """Return a file with holes, whose map goes on for *blocks* more, as GNU's tar writes it; then another."""
    header = tarfile.TarInfo("holes")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, len(content)
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[482] = bool(blocks)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:512]) + 8 * 32)
    more = (bytes([1]) * 504 + bytes([number + 1 < blocks]) + bytes(7) for number in range(blocks))
    rest = archive([("next", tarfile.REGTYPE, b"", 0, 0)])
    return bytes(block) + b"".join(more) + content.ljust(-(-len(content) // 512) * 512, b"\0") + rest


@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 512, 5000])
def test_the_map_of_a_file_with_holes_is_no_content(blocks: int, size: int) -> None:
    """However long it is: what follows is the content, then the next entry."""
    read = [*members(pieces(_sparse(b"content" * 100, blocks), size))]
    names = [part.header.name for part in read if isinstance(part, Member)]
    assert names == ["holes", "next"]
    assert b"".join(part for part in read if not isinstance(part, Member)) == b"content" * 100


def _extended(size: int) -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, size
    return header.tobuf(tarfile.USTAR_FORMAT)


def _long_names(count: int, size: int, letter: str = "a") -> bytes:
    """Return the gzip of members with names of a little less than *size* bytes."""
    name = b" path=" + letter.encode() * ((size - 600) // len(letter.encode())) + b"\n"
    record = str(len(name) + len(str(size))).encode().rjust(len(str(size)), b"0") + name
    padded = record.ljust(len(record) + -len(record) % 512, b"\0")
    member = _extended(len(record)) + padded + tarfile.TarInfo("f").tobuf(tarfile.USTAR_FORMAT)
    return go_gzip(member) * count


@pytest.mark.parametrize(
    "layer",
    [
        b"no tar at all" * 100,
        PLAIN[:300],
        PLAIN[:514],
        archive([("f", tarfile.REGTYPE, b"whole", 0, 0)])[:1000],
        _sparse(b"content", blocks=3)[: 512 * 3],
        go_gzip(PLAIN)[:-20],
        _extended(1 << 30),
        (_extended(512) + b"512 path=".ljust(511, b"x") + b"\n") * 3000 + PLAIN,
        _long_names(70, 1 << 20),
        _long_names(40, 1 << 20, "\N{WHALE}"),
        _long_names(40, 1 << 20, "\x01"),
        _extended(20) + b"99999 path=x".ljust(512, b"\0"),
        _extended(20) + b"x path=y\n".ljust(512, b"\0"),
        _extended(16) + b"-2 a=b.........0".ljust(512, b"\0"),
        _extended(16) + b"0 a=b...........".ljust(512, b"\0"),
        _extended(16) + b"2 a=b..........=".ljust(512, b"\0"),
        _extended(20) + b"18 size=-1234567\n".ljust(512, b"\0") + PLAIN,
        _extended(11) + b"11 size=no\n".ljust(512, b"\0") + PLAIN,
    ],
    ids=[
        "text",
        "half a header",
        "half a file",
        "half a block",
        "half a map of holes",
        "half a gzip",
        "huge",
        "huge in pieces",
        "long names",
        "long names of wide characters",
        "long names of escaped characters",
        "long",
        "no number",
        "back",
        "nowhere",
        "too short",
        "negative",
        "no size",
    ],
)
def test_what_is_no_archive_is_refused(layer: bytes) -> None:
    """With one error, and in bounded memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ImageInvalid):
            dump_files(files([layer]))
        assert not verify_tarsum("tarsum+sha256:" + "0" * 64, JSON, [layer])
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def _listed(layer: bytes) -> list[tuple[str, str, bool]]:
    return [file[:3] for file in files([layer])]


def test_files_are_told_with_whiteouts_and_without_what_aufs_keeps() -> None:
    """Wherever a whiteout lies; dots in front of names go."""
    assert _listed(AUFS) == [("etc/host", "f", True), ("var/new", "f", False)]
    dotted = archive(
        [
            (".", tarfile.DIRTYPE, b"", 0, 0),
            ("./x", tarfile.SYMTYPE, b"", 0, 0),
            ("./.wh.y", tarfile.REGTYPE, b"", 0, 0),
        ]
    )
    assert _listed(unended(dotted)) == [("/", "d", False), ("/x", "s", False), ("/y", "f", True)]
    (one,) = files([archive([("f", tarfile.REGTYPE, b"123", 7, 8)])])
    assert one == File("f", "f", deleted=False, size=3, mtime=7, mode=0o644, uid=8, gid=0)


def test_changes_are_sorted_by_what_lies_below() -> None:
    """The nearest layer that knows a name decides; a folder that went took its files along."""

    def layer(*names: str) -> list[File]:
        return [*files([builders.tar(dict.fromkeys(names, b""))])]

    told = changes(
        layer("a", "b", "c/d", "e", ".wh.f"),
        [layer("a", ".wh.b"), layer("b", ".wh.c", "./e"), layer("c/d")],
    )
    assert {kind: [*names] for kind, names in told.items()} == {
        "deleted": ["f"],
        "changed": ["a", "e"],
        "created": ["b", "c/d"],
    }
    assert told["deleted"]["f"] == ["f", True, 0, 0, 0o644, 0, 0]


_PATH = st.lists(st.sampled_from(["a", "b", "a.b"]), min_size=1, max_size=4).map("/".join)
_LISTED = st.lists(st.builds(lambda path, gone: _file(path, deleted=gone), _PATH, st.booleans()), max_size=6)


def _file(path: str, *, deleted: bool = False) -> File:
    return File(path, "f", deleted, 0, 0, 0, 0, 0)


def _is_created(path: str, below: Sequence[Sequence[File]]) -> bool:
    """Return whether no layer below knows the path, nearest first, before one that deletes it or a folder."""
    for layer in below:
        if any(file.path == path and not file.deleted for file in layer):
            return False
        if any(file.deleted and f"{path}/".startswith(f"{file.path}/") for file in layer):
            return True
    return True


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(_LISTED, st.lists(_LISTED, max_size=3))
def test_changes_follow_from_what_each_layer_below_knows(top: list[File], below: list[list[File]]) -> None:
    """Whatever the layers are, each new file is changed or created."""
    told, new = changes(top, below), {file.path for file in top if not file.deleted}
    created = {path for path in new if _is_created(path, below)}
    assert (told["created"].keys(), told["changed"].keys()) == (created, new - created)


def test_deep_folders_take_no_longer_than_flat_ones() -> None:
    """A path of a million folders is found below one that went, and is compared with others, at once."""
    deep = "a/" * 500_000
    top = [_file(f"{deep}{number}") for number in range(20)]
    below = [[_file("elsewhere", deleted=True)]] * 50 + [[_file("a", deleted=True)]]
    started = process_time()
    assert len(changes(top, below)["created"]) == 20
    assert process_time() - started < 5


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([PLAIN, AUFS, NO_END]), st.data())
def test_a_damaged_archive_fails_in_one_way(layer: bytes, data: st.DataObject) -> None:
    """Whatever bytes are changed: it is listed, or refused with the one error that is told to clients."""
    damaged = bytearray(unpacked(layer))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(damaged), 1100) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        header = damaged[:512]
        header[148:156] = b" " * 8
        damaged[148:156] = f"{sum(header):06o}\0 ".encode()
    with contextlib.suppress(ImageInvalid):
        [*files([bytes(damaged)])]
    verify_tarsum("tarsum.v1+sha256:" + "0" * 64, JSON, [bytes(damaged)])


@pytest.mark.slow
def test_many_files_that_went_one_by_one_cost_little() -> None:
    """Each of them is found without moving all others."""
    names = [f"{number:06}" for number in range(500_000)]
    top, below = [*map(_file, names)], [_file(name, deleted=True) for name in names]
    started = process_time()
    told = changes(top, [below])
    assert process_time() - started < 6  # it takes 2 s; moving the others took 13
    assert len(told["created"]) == len(names)
