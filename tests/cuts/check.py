"""Starts a registry on what a cut left, and tests everything that it had promised."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask import Flask
from sqlalchemy import select

from dualreg.assembly import build_registry, prepare
from dualreg.catalog.clock import utc_now
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import RepositoryBlobs
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.maintenance import uploads
from dualreg.maintenance.gc import Collection
from dualreg.maintenance.rebuild import Rebuild
from dualreg.registry import Registry
from dualreg.registry.state import Retention
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests import quick
from tests.apps import application, serve_instead
from tests.cuts.client import V1, V2, InProcess, Pusher
from tests.cuts.disk import Image
from tests.cuts.promises import Key, Value
from tests.cuts.stories import CONTENT, LAYERS, STORIES, Scene
from tests.faults.faulty import check_sound
from tests.maintenance.world import known_rows, rebuilt_rows
from tests.protocol.clients.wire import Answer, ProtocolError, Wire, need

#: The catalog; its other files are called after it.
CATALOG = "data/catalog.sqlite3"
_TIMES = {"pushed_at", "updated_at", "condemned_at"}
#: What a registry may have in its folder beside its content.
_OWN = ("catalog.sqlite3", "docker/", "uploads/", "migrations/", "access.json", "collections", "audit.jsonl")


def check(
    root: Path, image: Image, allowed: Mapping[Key, set[Value]], story: str, *, rebuilt: bool = False
) -> None:
    """Write *image* to the empty folder *root*, and test what is left of a story there.

    Args:
        rebuilt: Test too that nothing is lost if the catalog is.

    Raises:
        AssertionError, ProtocolError: a promise does not hold.
    """
    if rebuilt:
        _check_rebuilt(root / "rebuilt", image, allowed)
    write(root, image)
    with _started(root) as (registry, wire):
        check_promises(wire, allowed)
        check_sound(registry)
        _check_files(root / "data", allowed)
        STORIES[story].repeat(Scene(root, Pusher(wire)))
        check_sound(registry)
        _check_debris(root / "data", registry)
        if rebuilt:
            found, known = rebuilt_rows(registry.state.store, root), known_rows(registry.state.catalog)
            assert timeless(found) == timeless(known), "a rebuilt catalog differs"


def check_promises(wire: Wire, allowed: Mapping[Key, set[Value]]) -> None:
    """Test everything that was promised; uploads are finished by that."""
    for key, values in allowed.items():
        found = _FIND[key[0]](wire, key)
        assert found in values, f"{key} is {found}, promised was {values}"


def timeless(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Return rows as texts, without times, which a disk of the model does not keep, and keys of ours."""
    return {
        table: sorted(repr([(name, row[name]) for name in row if name not in _TIMES]) for row in each)
        for table, each in rows.items()
        if table != "signing_keys"
    }


def _check_rebuilt(root: Path, image: Image, allowed: Mapping[Key, set[Value]]) -> None:
    """Lose the catalog, make it anew from the store, and test all promises but those about uploads."""
    write(root, {name: content for name, content in image.items() if not name.startswith(CATALOG)})
    data = root / "data"
    data.mkdir(exist_ok=True)
    (data / "catalog.sqlite3").write_bytes(quick.migrated())
    with closing(Catalog(Settings(data=data).database_url)) as catalog:
        rebuild = Rebuild(catalog, FilesystemStore(data))
        rebuild.begin()
        assert rebuild.run().complete
    with _started(root) as (registry, wire):
        check_sound(registry)
        check_promises(wire, {key: values for key, values in allowed.items() if key[0] != "upload"})


def write(root: Path, image: Image) -> None:
    """Write files and folders."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in image.items():
        if content is None:
            (root / name).mkdir()
        elif not name.endswith("-shm"):  # SQLite keeps it in memory, and makes it anew
            (root / name).write_bytes(content)


def _later() -> datetime:
    """Return a time at which what the dead process had leased is free."""
    return utc_now() + timedelta(minutes=20)


@cache
def _application() -> Flask:
    """Return an application, whose registry is replaced: making it takes longer than most checks."""
    quick.install()
    with TemporaryDirectory() as folder:
        catalog = Catalog(f"sqlite:///{folder}/catalog.sqlite3")
        return application(build_registry(catalog, FilesystemStore(Path(folder))))


@contextmanager
def _started(root: Path) -> Iterator[tuple[Registry, Wire]]:
    """Start a registry as the server does, later."""
    settings = Settings(data=root / "data", audit="off")
    app = _application()
    prepare(settings)
    catalog = Catalog(settings.database_url, now=_later)
    try:
        registry = build_registry(catalog, FilesystemStore(root / "data"), settings)
        serve_instead(app, registry, settings)
        yield registry, InProcess(app.test_client())
    finally:
        catalog.close()


def _found(answer: Answer) -> bool:
    need(answer, (200, 204, 404), "look")
    return answer.status != 404


def _tag(wire: Wire, key: Key) -> Value:
    """Pull over V2, and over V1 too."""
    _, repository, name = key
    accept = [("Accept", each) for each in (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST)]
    if not _found(wire.send("HEAD", f"/v2/{repository}/manifests/{name}", accept)):
        return None
    pulled = V2(wire).pull(repository, name)
    over_v1 = V1(wire).pull(repository, name)
    assert [image.layer for image in over_v1] == pulled.layers
    return pulled.digest


def _v1(wire: Wire, key: Key) -> Value:
    """Pull over V1, and over V2 too."""
    _, repository, name = key
    if not _found(wire.send("GET", f"/v1/repositories/{repository}/tags/{name}")):
        return None
    over_v1, over_v2 = V1(wire).pull(repository, name), V2(wire).pull(repository, name)
    layers = [image.layer for image in over_v1]
    assert layers == LAYERS[over_v1[-1].id]
    assert layers == over_v2.layers
    return over_v1[-1].id


def _manifest(wire: Wire, key: Key) -> Value:
    _, repository, digest = key
    if not _found(wire.send("HEAD", f"/v2/{repository}/manifests/{digest}")):
        return None
    return str(Digest.of(V2(wire).pull_manifest(repository, digest)[1]))


def _blob(wire: Wire, key: Key) -> Value:
    _, repository, digest = key
    answer = wire.send("GET", f"/v2/{repository}/blobs/{digest}")
    return str(Digest.of(answer.body)) if _found(answer) else None


def _upload(wire: Wire, key: Key) -> Value:
    """Return the offset, after going on from it."""
    path, digest = key[1], Digest.parse(key[2])
    answer = wire.send("GET", path)
    if not _found(answer):
        return None
    offset = int(answer.headers["range"].partition("-")[2]) + 1
    offset = 0 if answer.headers["range"] == "0-0" and offset == 1 else offset
    rest = CONTENT[digest][offset:]
    Pusher(wire).append(path, digest, rest[:1])
    Pusher(wire).finish("", path, digest, rest[1:])
    return offset


_FIND: Mapping[str, Callable[[Wire, Key], Value]] = {
    "tag": _tag,
    "v1": _v1,
    "manifest": _manifest,
    "blob": _blob,
    "upload": _upload,
}


def _check_files(data: Path, allowed: Mapping[Key, set[Value]]) -> None:
    """Check that every file is one of ours and whole, whatever the catalog says of it, and links are true."""
    for path in (each for each in data.rglob("*") if each.is_file()):
        name = path.relative_to(data).as_posix()
        assert name.startswith(_OWN), name
        if name.startswith("uploads/"):
            continue  # not placed yet: a file may be incomplete
        if path.name == "data":
            digest = Digest.parse(f"{path.parts[-4]}:{path.parts[-2]}")
            assert Digest.of(path.read_bytes(), digest.algorithm) == digest, f"{name} has other bytes"
        elif path.name in ("link", "signed"):
            Digest.parse(path.read_text())
        elif path.parent.name == "_v1":
            json.loads(path.read_bytes())
    for (kind, repository, tag), values in allowed.items():
        if kind == "tag" and len(values) == 1:
            link = data / f"docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"
            assert (link.read_text() if link.exists() else None) in values, link


def _check_debris(data: Path, registry: Registry) -> None:
    """Check that nothing is left but what ``gc`` deletes, and files of which ``fsck`` names a link file."""
    before = registry.now() + timedelta(days=1)
    uploads.apply(registry.uploads, before, uploads.plan(registry.uploads, before))
    assert not [*(data / "uploads").glob("*")]
    hasty = registry.over(replace(registry.state, retention=Retention(timedelta(0))))
    Collection(hasty).run(full=True)
    Collection(hasty).run()
    state = registry.state
    with state.catalog.engine.connect() as connection:
        kept = {str(digest) for digest in connection.scalars(select(RepositoryBlobs.digest))}
    kept |= {content.decode() for _, content in state.links.tree.walk_links()}
    left = {str(blob.digest) for blob in state.store.walk()} - kept
    assert not left, f"gc leaves {left}"


def refused(error: BaseException) -> str:
    """Return what a failed check says, in one line."""
    kind = "" if isinstance(error, AssertionError | ProtocolError) else f"{type(error).__name__}: "
    return f"{kind}{error}".partition("\n")[0]
