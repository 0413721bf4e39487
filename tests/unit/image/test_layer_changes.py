"""What layers have, and what they change: against layers that are applied to a dict, one entry at a time."""

import io
import tarfile
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualreg.image.entries import Entry, Kind, entries, named, shown
from dualreg.image.layer_changes import Change, changes

FILE, DIRECTORY, WHITEOUT, OPAQUE = Kind.FILE, Kind.DIRECTORY, Kind.WHITEOUT, Kind.OPAQUE
#: A file system: entries by path.
Files = dict[str, Entry]

_paths = st.lists(st.sampled_from("abc"), max_size=4).map("/".join)
_entries = st.builds(
    Entry,
    _paths,
    st.sampled_from([FILE, DIRECTORY, DIRECTORY, Kind.SYMLINK, WHITEOUT, OPAQUE]),
    st.sampled_from([0o755, 0o700]),
)
_layers = st.lists(st.lists(_entries, max_size=6), min_size=1, max_size=4)


def is_under(path: str, above: str) -> bool:
    """Return whether a path is below another one."""
    return path != above and f"{path}/".startswith(f"{above}/" if above else "")


def without(files: Files, path: str, *, itself: bool) -> Files:
    """Return what stays if all below a path is removed and, if need be, the path itself."""
    return {
        each: entry
        for each, entry in files.items()
        if not is_under(each, path) and not (itself and each == path)
    }


def applied(below: Files, layer: Sequence[Entry]) -> tuple[Files, Files]:
    """Return what stays of the files below a layer, and what the layer adds, as if it were unpacked."""
    added = Files()
    for entry in layer:
        if entry.kind in (WHITEOUT, OPAQUE):
            below = without(below, entry.path, itself=entry.kind is WHITEOUT)
            continue
        if entry.kind is not DIRECTORY:
            below = without(below, entry.path, itself=True)
            added = without(added, entry.path, itself=True)
        added[entry.path] = entry
    return below, added


def owned(entry: Entry) -> tuple[int, int, int]:
    """Return what of a directory counts."""
    return entry.mode, entry.uid, entry.gid


def expected(layers: Sequence[Sequence[Entry]]) -> dict[str, Change]:
    """Return what the last layer changes."""
    before = Files()
    for layer in layers[:-1]:
        stays, added = applied({**before}, layer)
        before = stays | added
    stays, added = applied({**before}, layers[-1])
    found = {path: Change.REMOVED for path in before if path not in stays and path not in added}
    for path, new in added.items():
        old = before.get(path)
        if old is None:
            found[path] = Change.ADDED
        elif not (new.kind is old.kind is DIRECTORY and owned(new) == owned(old)):
            found[path] = Change.CHANGED
    return found


@settings(max_examples=100, deadline=None)
@given(_layers)
def test_changes_are_those_of_unpacking(layers: list[list[Entry]]) -> None:
    """Each path once, by path, whatever the order of whiteouts, and whatever lies where in which layer."""
    found = [*changes(layers[-1], layers[:-1])]
    assert {each.entry.path: each.change for each in found} == expected(layers)
    paths = [each.entry.path.split("/") for each in found if each.entry.path]
    assert paths == sorted(paths)
    assert len({each.entry.path for each in found}) == len(found)


@pytest.mark.parametrize(
    ("below", "layer", "removed"),
    [
        ("d/ d/a d/b", ".wh.d", "d d/a d/b"),
        ("d/ d/a d/b", "d/.wh.a", "d/a"),
        ("d/ d/a d/b", "d/.wh..wh..opq", "d/a d/b"),
        ("d/ d/a d/b", "d/.wh..wh..opq d/a", "d/b"),
        ("d/ d/a d/b", "d/a d/.wh..wh..opq", "d/b"),
        ("d/ d/a", "d", "d/a"),
        ("d/ d/a", ".wh.d d/", "d/a"),
        ("./ ./d/ ./d/a", "/d/.wh.a", "d/a"),
        ("d/ d/a", ".wh..wh.aufs .wh..wh.plnk/ .wh..wh.plnk/1.2", ""),
        ("d/ d/a", ".wh.none none/.wh.a none/.wh..wh..opq", ""),
        ("d/ d/a e", "d/../.wh.e", "e"),
        ("d/ d/a", ".wh..wh..opq", "d d/a"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_whiteouts(below: str, layer: str, removed: str, *, split: bool) -> None:
    """As archives have them; also if each file below comes from a layer of its own."""
    names = below.split()
    layers = [archive(name) for name in names] if split else [archive(*names)]
    found = changes(entries([archive(*layer.split())]), (entries([each]) for each in layers))
    assert [each.entry.path for each in found if each.change is Change.REMOVED] == removed.split()


def archive(*names: str, **members: object) -> bytes:
    """Return an archive; names that end with a slash are those of directories."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as target:
        for name in names:
            header = tarfile.TarInfo(name)
            header.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            for key, value in members.items():
                setattr(header, key, value)
            target.addfile(header)
    return out.getvalue()


def test_what_is_kept_is_what_the_layer_is_about() -> None:
    """A large image takes no memory for files that the layer has nothing to do with."""
    kept = list[int]()
    base = [Entry(f"base/{number}/file", FILE) for number in range(1000)]
    found = [*changes([Entry("base/7/file", FILE)], [base], lambda count, _: kept.append(count))]
    assert [each.change for each in found] == [Change.CHANGED]
    assert sum(kept) < 10


def test_deep_paths() -> None:
    """Thousands of directories in each other are compared like any others."""
    deep = "/".join("d" * 5000)
    found = changes([Entry(deep, FILE)], [[Entry(deep.rpartition("/")[0], FILE)]])
    assert [(each.change, len(each.entry.path)) for each in found] == [
        (Change.ADDED, len(deep)),
    ]


@pytest.mark.parametrize(
    ("header", "entry"),
    [
        ({}, Entry("a/b", FILE, 0o644)),
        ({"mode": 0o107755}, Entry("a/b", FILE, 0o7755)),
        ({"mtime": -5}, Entry("a/b", FILE, 0o644, mtime=-5)),
        ({"pax_headers": {"mtime": "9" * 30}}, Entry("a/b", FILE, 0o644, mtime=(1 << 63) - 1)),
        ({"pax_headers": {"uid": f"-{'9' * 30}"}}, Entry("a/b", FILE, 0o644, uid=-(1 << 63) + 1)),
        ({"type": tarfile.SYMTYPE, "linkname": "/../x"}, Entry("a/b", Kind.SYMLINK, 0o644, target="/../x")),
        ({"type": tarfile.LNKTYPE, "linkname": "x"}, Entry("a/b", Kind.LINK, 0o644, target="x")),
        ({"type": tarfile.CHRTYPE}, Entry("a/b", Kind.CHARACTERS, 0o644)),
        ({"type": tarfile.BLKTYPE}, Entry("a/b", Kind.BLOCKS, 0o644)),
        ({"type": tarfile.FIFOTYPE}, Entry("a/b", Kind.FIFO, 0o644)),
        ({"type": tarfile.CONTTYPE}, Entry("a/b", FILE, 0o644)),
        ({"type": tarfile.GNUTYPE_SPARSE}, Entry("a/b", FILE, 0o644)),
        ({"type": b"Z"}, Entry("a/b", Kind.OTHER, 0o644)),
    ],
)
@pytest.mark.parametrize("name", ["a/b", "/a/b", "./a//b", "../../a/x/../b"])
def test_entries(name: str, header: dict[str, object], entry: Entry) -> None:
    """Whatever headers say, paths are those from the root, and numbers have an end."""
    assert [*entries([archive(name, **header)])] == [entry]


@pytest.mark.parametrize(
    ("kind", "mode", "text"),
    [
        (FILE, 0o4755, "-rwsr-xr-x"),
        (DIRECTORY, 0o1777, "drwxrwxrwt"),
        (Kind.SYMLINK, 0o777, "lrwxrwxrwx"),
        (Kind.LINK, 0o600, "-rw-------"),
        (Kind.OTHER, 0o600, "?rw-------"),
        (WHITEOUT, 0, ""),
        (OPAQUE, 0, ""),
    ],
)
def test_permissions(kind: Kind, mode: int, text: str) -> None:
    """As ls writes them."""
    assert Entry("a", kind, mode).permissions == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"usr/bin", "usr/bin"),
        ("straße/日本".encode(), "straße/日本"),
        (b"a\x1b[31m\n", r"a\x1b[31m\n"),
        (b"\xff\xfe", r"\xff\xfe"),
        (rb"\xff", r"\\xff"),
        ("\u202egpj.exe".encode(), r"\u202egpj.exe"),
        ("\x85".encode(), r"\u0085"),
        ("\U000e0001".encode(), r"\U000e0001"),
        (b"\0", r"\x00"),
        (b"a" * 5000, "a" * 4096 + "…"),
    ],
)
def test_names_are_shown_escaped(name: bytes, text: str) -> None:
    """Nothing of them is obeyed, by terminals or pages."""
    found = shown(name.decode("utf-8", "surrogateescape"))
    assert found == text
    assert found.isprintable()
    assert found.endswith("…") or shown(named(found)) == found


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=2, max_size=9, unique=True))
def test_other_names_look_different(names: list[bytes]) -> None:
    """Whatever bytes they are; which one is shown can be said by that."""
    texts = [each.decode("utf-8", "surrogateescape") for each in names]
    assert len({*map(shown, texts)}) == len(names)
    assert [named(shown(each)) for each in texts] == texts
