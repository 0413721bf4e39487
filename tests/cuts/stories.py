"""Stories: what a client does, or an operator, before the power is cut.

``python -m tests.cuts.stories STORY ROOT NOTES`` runs one over the data folder ROOT/data.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main as dualreg
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from tests import builders
from tests.apps import application
from tests.builders import Image, V1Pushed
from tests.cuts.client import InProcess, Pusher
from tests.cuts.promises import Facts, Notes
from tests.migrate import stock_trees, trees
from tests.protocol.clients.v1 import session
from tests.protocol.clients.wire import need

IMAGES = tuple(
    builders.image(builders.layer({"base": b"0"}), builders.layer({"own": str(number).encode()}))
    for number in range(4)
)
CHAINS = tuple(
    builders.v1_chain(
        builders.layer({"base": b"1"}), builders.layer({"own": str(number).encode()}), seed=f"chain {number}"
    )
    for number in range(4)
)
#: The bytes of everything that stories push.
CONTENT = {digest: data for image in IMAGES for digest, data in image.blobs.items()}
#: Of which images the layers are on both APIs.
LAYERS = {chain[-1].id: [image.layer for image in chain] for chain in CHAINS}
#: Bytes that are uploaded, and never finished.
IDLE = b"idle" * 3000
CONTENT[Digest.of(IDLE)] = IDLE


@dataclass(frozen=True)
class Scene:
    """A registry over a folder, and who uses it."""

    root: Path
    pusher: Pusher

    def command(self, line: str) -> None:
        """Run a command over the data folder."""
        done = CliRunner().invoke(dualreg, [*line.split(), "--data", str(self.root / "data")])
        if done.exit_code:
            raise AssertionError(f"dualreg {line}: {done.output}") from done.exception


Act = Callable[[Scene], None]


@dataclass(frozen=True)
class Story:
    """What happens.

    Attributes:
        before: Noted, but not cut.
        act: Cut.
        again: Done afterwards, and must succeed; None: both.
    """

    before: Act
    act: Act
    again: Act | None = None

    def repeat(self, scene: Scene) -> None:
        """Do afterwards what is to be done."""
        for act in (self.again,) if self.again else (self.before, self.act):
            act(scene)


def _nothing(_: Scene) -> None:
    """Prepare nothing."""


def _push_v2(scene: Scene) -> None:
    scene.pusher.push("team/app", "latest", IMAGES[0])
    scene.pusher.push("team/app", "2", IMAGES[1])
    scene.pusher.push("other/app", "latest", IMAGES[1])


def _push_v1(scene: Scene) -> None:
    scene.pusher.push_v1("team/old", "latest", CHAINS[0])
    scene.pusher.push_v1("team/old", "2", CHAINS[1])


def _push_both(scene: Scene) -> None:
    _push_v2(scene)
    _push_v1(scene)


def _move(scene: Scene) -> None:
    for _ in range(2):
        for image in IMAGES[1], IMAGES[0]:
            scene.pusher.tag("team/app", "latest", image)
        for chain in CHAINS[1], CHAINS[0]:
            scene.pusher.push_v1("team/old", "latest", chain)
    scene.pusher.tag("team/app", "third", IMAGES[1])


def _delete(scene: Scene) -> None:
    delete, one, two = scene.pusher.delete, str(IMAGES[0].digest), str(IMAGES[1].digest)
    delete("/v2/team/app/manifests/latest", {("tag", "team/app", "latest"): None})
    delete(f"/v2/team/app/manifests/{one}", {("manifest", "team/app", one): None})
    gone = {("manifest", "team/app", two): None, ("tag", "team/app", "2"): None}
    delete(f"/v2/team/app/manifests/{two}", gone)
    for digest in IMAGES[0].blobs:
        delete(f"/v2/team/app/blobs/{digest}", {("blob", "team/app", str(digest)): None})
    delete("/v1/repositories/team/old/tags/2", {("v1", "team/old", "2"): None})
    delete("/v1/repositories/team/old/", {("v1", "team/old", "latest"): None})
    left = {("tag", "other/app", "latest"): None, ("manifest", "other/app", two): None}
    blobs = {("blob", "other/app", str(digest)): None for digest in IMAGES[1].blobs}
    delete("/v2/other/app/_dualreg/repository", left | blobs)
    scene.pusher.push("other/app", "latest", IMAGES[0])


def _upload(scene: Scene) -> None:
    _push_both(scene)
    for number in range(4):
        path = scene.pusher.start("team/app", Digest.of(IDLE))
        scene.pusher.append(path, Digest.of(IDLE), IDLE[: 3000 * number])
        _idle.append(path)


def _leave(scene: Scene) -> None:
    """Leave uploads that nobody goes on with, and blobs that nothing uses."""
    _upload(scene)
    one, left = str(IMAGES[0].digest), ("latest", "2")
    scene.pusher.delete(
        f"/v2/team/app/manifests/{one}",
        {("manifest", "team/app", one): None, ("tag", "team/app", "latest"): None},
    )
    scene.pusher.delete("/v1/repositories/team/old/", {("v1", "team/old", tag): None for tag in left})


#: Paths of the uploads that ``gc`` deletes.
_idle: list[str] = []


def _gc(scene: Scene) -> None:
    cancelled, *idle = _idle or ["/v2/team/app/blobs/uploads/gone"]
    scene.pusher.delete(cancelled, {("upload", cancelled, str(Digest.of(IDLE))): None})
    os.environ["DUALREG_UPLOAD_TTL"] = "0s"
    os.environ["DUALREG_GC_GRACE"] = "0s"
    unused = IMAGES[0].blobs.keys() - IMAGES[1].blobs.keys()
    uploads = {("upload", path, str(Digest.of(IDLE))): None for path in idle}
    with scene.pusher.asking(uploads | {("blob", "team/app", str(digest)): None for digest in unused}):
        scene.command("gc")
    del os.environ["DUALREG_UPLOAD_TTL"], os.environ["DUALREG_GC_GRACE"]


def _migrate(scene: Scene) -> None:
    tags = {("tag", name, tag): str(digest) for (name, tag), digest in OLD.items()}
    with scene.pusher.asking(tags):
        scene.command(f"migrate run registry-tree:{scene.root}/old --jobs 1")


#: The tags of the tree that is migrated.
OLD = {
    ("team/moved", "1"): IMAGES[2].digest,
    ("team/moved", "2"): IMAGES[3].digest,
    ("else/where", "1"): IMAGES[3].digest,
}


#: An image of V1 whose parents have tags, too: those of the tree of V1 that is migrated.
_OLD_CHAIN = builders.v1_chain(*(builders.layer({each: each.encode()}) for each in "abc"), seed="old")
OLD_V1 = {
    ("old/app", "base"): _OLD_CHAIN[:1],
    ("old/app", "1"): _OLD_CHAIN,
    ("old/app", "2"): CHAINS[2],
    ("old/fork", "1"): _OLD_CHAIN[:2],
}
LAYERS |= {chain[-1].id: [image.layer for image in chain] for chain in OLD_V1.values()}


def build(root: Path) -> None:
    """Write the trees that are migrated to ROOT/old and ROOT/old-v1."""
    tree = stock_trees.StockTree(root / "old")
    for (name, tag), digest in OLD.items():
        tree.image(name, next(image for image in IMAGES if image.digest == digest), tag)
    old = trees.Tree(root / "old-v1")
    for (name, tag), chain in OLD_V1.items():
        for parent, image in zip((None, *chain), chain, strict=False):
            above = parent and parent.id
            old.image("", image.layer, parent=above, id_=image.id, document=image.json)
        old.tag(name, tag, chain[-1].id, 1_400_000_000)


def _migrate_v1(scene: Scene) -> None:
    """Migrate the image that others are built on, then all: many at once, and on what is there."""
    for some in ("--include old/app:base", ""):
        asked: Facts = {
            ("v1", name, tag): chain[-1].id
            for (name, tag), chain in OLD_V1.items()
            if not some or tag == "base"
        }
        with scene.pusher.asking(asked):
            scene.command(f"migrate run v1-tree:{scene.root}/old-v1 --jobs 1 {some}")


def _mount_v1(scene: Scene) -> None:
    """Push images that another repository of the client has: it sends nothing but their tags."""
    for name, tag, chain in (
        ("team/copy", "latest", CHAINS[0]),
        ("team/copy", "2", CHAINS[1]),
        ("other/copy", "2", CHAINS[1]),
    ):
        token, wire = session(scene.pusher.wire, name), scene.pusher.wire
        need(wire.send("GET", f"/v1/images/{chain[0].id}/json", token), 200, "mount")
        scene.pusher.push_v1(name, tag, chain)


#: The files after which pushes are killed when they wait for them.
_KILLS = range(1, 40, 6)


def _push_killed(scene: Scene) -> None:
    """Push what another process was killed in the middle of, at one wait for the disk after the other."""
    for number in _KILLS:
        for push in _PUSHES:
            _killed(scene.root, number, partial(push, number))
            push(number, scene.pusher)


def _push_again(scene: Scene) -> None:
    for number in _KILLS:
        for push in _PUSHES:
            push(number, scene.pusher)


_PUSHES: tuple[Callable[[int, Pusher], None], ...] = (
    lambda number, pusher: pusher.push(f"killed/v{number}", "2", _image(number)),
    lambda number, pusher: pusher.push_v1(f"killed/v{number}", "1", _chain(number)),
)


def _image(number: int) -> Image:
    image = builders.image(builders.layer({"killed": str(number).encode()}))
    CONTENT.update(image.blobs)
    return image


def _chain(number: int) -> list[V1Pushed]:
    chain = builders.v1_chain(builders.layer({"killed": b"1" * number}), seed=f"killed {number}")
    LAYERS[chain[-1].id] = [image.layer for image in chain]
    return chain


for _number in _KILLS:  # their content is known to whoever checks
    _image(_number)
    _chain(_number)


def _killed(root: Path, number: int, push: Callable[[Pusher], None]) -> None:
    """Push in a process of its own, which is killed at the *number*-th file that it waits for."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    waits = count(1)

    def killing(sync: Callable[[int], None], descriptor: int) -> None:
        if next(waits) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync, os.fdatasync = partial(killing, os.fsync), partial(killing, os.fdatasync)
    try:
        with serving(root) as scene:
            push(scene.pusher)
    finally:
        os._exit(0)


STORIES = {
    "V2 push": Story(_nothing, _push_v2),
    "V1 push": Story(_nothing, _push_v1),
    "tag move": Story(_push_both, _move),
    "delete": Story(_push_both, _delete),
    "gc": Story(_leave, _gc),
    "migration": Story(_nothing, _migrate),
    "V1 migration": Story(_nothing, _migrate_v1),
    "V1 mount": Story(_push_v1, _mount_v1),
    "kill": Story(_nothing, _push_killed, _push_again),
}


@contextmanager
def serving(root: Path, notes: Notes | None = None) -> Iterator[Scene]:
    """Yield a scene over ROOT/data, which is prepared as a server does it."""
    settings = Settings(data=root / "data", audit="off")
    prepare(settings)
    registry = open_registry(settings)
    try:
        yield Scene(root, Pusher(InProcess(application(registry, settings).test_client()), notes))
    finally:
        registry.close()


def _run(name: str, root: str, notes: str) -> None:
    written = Notes(os.open(notes, os.O_WRONLY | os.O_APPEND))
    with serving(Path(root), written) as scene:
        STORIES[name].before(scene)
        written.begin()
        STORIES[name].act(scene)


if __name__ == "__main__":
    _run(*sys.argv[1:])
