"""Cuts a recorded story everywhere, and checks what is left; many at a time."""

import hashlib
import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.cuts.check import check, refused
from tests.cuts.disk import Image
from tests.cuts.promises import Key, Promises, Value
from tests.cuts.record import Recording
from tests.quick import memory_folder


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
        promised = [(key, sorted(map(str, values))) for key, values in self.allowed.items()]
        return hashlib.sha256(repr((sorted(self.image.items()), promised)).encode()).digest()


@dataclass
class Result:
    """What was tried of one story.

    Attributes:
        cuts: Cuts by kind.
        disks: Different things that they left.
        failures: What did not hold, by cut.
    """

    cuts: Counter[str] = field(default_factory=Counter)
    disks: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def cuts(recording: Recording, *, stride: int, torn: int, seed: int = 0) -> Iterator[Cut]:
    """Yield cuts after every *stride*-th call or note: a kill, a power cut, and *torn* ones by *seed*.

    A cut directly after an answer finds what is only made durable after it.
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
        yield Cut(f"kill {number}", recording.disk.killed(), allowed)
        yield Cut(f"cut {number}", recording.disk.cut(), allowed)
        for one in range(torn):
            chance = random.Random(f"{seed} {number} {one}")  # noqa: S311 -- to be repeatable
            yield Cut(f"torn {number} {seed} {one}", recording.disk.torn(chance), allowed)


def run(story: str, some: Iterator[Cut], pool: Executor, *, waiting: int = 50) -> Result:
    """Check cuts of a story; those that leave the same are counted, but checked once."""
    result, seen, running = Result(), set[bytes](), dict[Future[str], str]()

    def collect(limit: int) -> None:
        while len(running) > limit:
            future = next(iter(running))
            name = running.pop(future)
            if failure := future.result():
                result.failures[name] = failure

    for cut in some:
        result.cuts[cut.name.partition(" ")[0]] += 1
        key = cut.key()
        if key not in seen:
            seen.add(key)
            running[pool.submit(attempt, story, cut)] = cut.name
            collect(waiting)
    collect(0)
    result.disks = len(seen)
    return result


def attempt(story: str, cut: Cut) -> str:
    """Check a cut; return what does not hold, or an empty text."""
    folder = Path(tempfile.mkdtemp(prefix="dualreg-cut-", dir=memory_folder()))
    try:
        check(folder, cut.image, cut.allowed, story)
    except Exception as error:  # noqa: BLE001 -- each is a finding
        return refused(error) + "\n" + "".join(traceback.format_exception(error)[-6:])
    finally:
        shutil.rmtree(folder)
    return ""
