"""Cuts a recorded story everywhere, and checks what is left; many at a time."""

import hashlib
import random
import shutil
import sqlite3
import tempfile
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.cuts.check import CATALOG, check, refused, write
from tests.cuts.disk import Image
from tests.cuts.promises import Key, Promises, Value
from tests.cuts.record import Recording
from tests.quick import memory_folder

#: Kinds of cuts: the process dies, the power fails, and it fails while the disk writes.
KINDS = ("kill", "cut", "torn")
#: After how many disks the catalog of one is lost too, and made anew.
_REBUILT = 5


class Cut(NamedTuple):
    """What one cut leaves, and what had been promised by then.

    Attributes:
        name: The kind of cut, and after how many system calls.
    """

    name: str
    image: Image
    allowed: Mapping[Key, set[Value]]

    def key(self) -> bytes:
        """Return what is equal for cuts that leave the same after the same promises."""
        return self._key(self.image)

    def state(self) -> bytes:
        """Return what is equal for cuts that also differ in what SQLite throws away when it is opened."""
        files = {name: content for name, content in self.image.items() if not name.startswith(CATALOG)}
        return self._key(files | {CATALOG: _dumped(self.image)})

    def _key(self, image: Image) -> bytes:
        promised = [(key, sorted(map(str, values))) for key, values in self.allowed.items()]
        return hashlib.sha256(repr((sorted(image.items()), promised)).encode()).digest()


def _dumped(image: Image) -> bytes:
    """Return the content of the catalog; if it cannot be read, its files."""
    with tempfile.TemporaryDirectory(prefix="dualreg-cut-", dir=memory_folder()) as folder:
        root = Path(folder)
        catalog = {name: content for name, content in image.items() if name.startswith(CATALOG)}
        write(root, {"data": None, **catalog})
        try:
            with closing(sqlite3.connect(root / CATALOG)) as connection:
                return "\n".join(connection.iterdump()).encode()
        except sqlite3.Error:
            return repr(sorted(catalog.items())).encode()


@dataclass
class Result:
    """What was tried of one story.

    Attributes:
        cuts: Cuts by kind.
        disks: Different things that they left.
        states: Those that differ when SQLite has opened the catalog: they were checked.
        rebuilt: Those of them of which the catalog was lost too.
        failures: What did not hold, by cut.
    """

    cuts: Counter[str] = field(default_factory=Counter)
    disks: int = 0
    states: int = 0
    rebuilt: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def cuts(
    recording: Recording, *, stride: int, torn: int, seed: int = 0, kinds: Collection[str] = KINDS
) -> Iterator[Cut]:
    """Yield cuts after every *stride*-th call or note: a kill, a power cut, and *torn* ones by *seed*.

    A cut directly after an answer finds what is only made durable after it.

    Args:
        kinds: Those that are made.
    """
    promises = Promises()
    for number, call in enumerate(recording.calls):
        if call.kind == "note":
            promises.note(call.data)
        else:
            recording.disk.play(call)
        if not promises.begun or number % stride:
            continue
        allowed = {key: set(values) for key, values in promises.allowed.items()}
        if "kill" in kinds:
            yield Cut(f"kill {number}", recording.disk.killed(), allowed)
        if "cut" in kinds:
            yield Cut(f"cut {number}", recording.disk.cut(), allowed)
        for one in range(torn if "torn" in kinds else 0):
            chance = random.Random(f"{seed} {number} {one}")  # noqa: S311 -- to be repeatable
            yield Cut(f"torn {number} {seed} {one}", recording.disk.torn(chance), allowed)


def run(story: str, some: Iterator[Cut], pool: Executor, *, waiting: int = 50) -> Result:
    """Check cuts of a story; those that leave the same are counted, but checked once."""
    result, seen, states, running = Result(), set[bytes](), set[bytes](), dict[Future[str], str]()

    def collect(limit: int) -> None:
        while len(running) > limit:
            future = next(iter(running))
            name = running.pop(future)
            if failure := future.result():
                result.failures[name] = failure

    for cut in some:
        result.cuts[cut.name.partition(" ")[0]] += 1
        if (key := cut.key()) in seen:
            continue
        seen.add(key)
        if (state := cut.state()) not in states:
            states.add(state)
            rebuilt = len(states) % _REBUILT == 0
            running[pool.submit(attempt, story, cut, rebuilt=rebuilt)] = cut.name
            result.rebuilt += rebuilt
            collect(waiting)
    collect(0)
    result.disks, result.states = len(seen), len(states)
    return result


def attempt(story: str, cut: Cut, *, rebuilt: bool = False) -> str:
    """Check a cut; return what does not hold, or an empty text."""
    folder = Path(tempfile.mkdtemp(prefix="dualreg-cut-", dir=memory_folder()))
    try:
        check(folder, cut.image, cut.allowed, story, rebuilt=rebuilt)
    except Exception as error:  # noqa: BLE001 -- each is a finding
        return refused(error) + "\n" + "".join(traceback.format_exception(error)[-6:])
    finally:
        shutil.rmtree(folder)
    return ""
