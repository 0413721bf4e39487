"""Journal: what a run did, line by line, so that it can go on after a crash, be told of, and be taken back.

A line is written, and on the disk, before what it announces is done; so nothing that was done is missing from
it, and what was only announced is looked at again.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Self
from weakref import finalize

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest


def line_of(event: str, facts: Mapping[str, object]) -> bytes:
    """Return a line."""
    return json.dumps({"event": event, **facts}, ensure_ascii=False, default=str).encode() + b"\n"


def append(descriptor: int, lines: bytes, *, durable: bool) -> None:
    """Append whole *lines*, or nothing; a line that a crash cut short before them stays alone."""
    end = os.fstat(descriptor).st_size
    try:
        torn = end and os.pread(descriptor, 1, end - 1) != b"\n"
        view = memoryview(b"\n" * bool(torn) + lines)
        while view:
            view = view[os.write(descriptor, view) :]
        if durable:
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def place_of(source: str) -> str:
    """Return what a source is called wherever one stands: paths are absolute, and links followed."""
    scheme, _, rest = source.partition(":")
    return source.rstrip("/") if scheme.endswith(("http", "https")) else f"{scheme}:{Path(rest).resolve()}"


def place_in(first: Mapping[str, Any] | None) -> str:
    """Return the place of the source that a journal is of, by its first line; empty if it says none."""
    if first is None or first.get("event") != "run":
        return ""
    return str(first.get("place") or place_of(str(first.get("source", ""))))


def parsed(line: bytes) -> Mapping[str, Any] | None:
    """Return what a line tells; None if it cannot be read."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "event" in told else None


#: The event of the line that a journal ends with once what it tells was taken out.
UNDONE = "undone"


class JournalBusy(Exception):
    """Another run is under way."""


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What reading an image's layer through told.

    Attributes:
        size, mtime: Of the file that was read: if they still are so, it need not be read again.
    """

    size: int
    mtime: int
    json: str
    layer: str
    diff_id: str
    checksum: str
    verified: bool

    @property
    def blob(self) -> BlobRow:
        """The layer."""
        return BlobRow(Digest.parse(self.layer), self.size)


class Journal:
    """Appends to a run's file, which stays open as long as this is kept."""

    def __init__(self, folder: Path, at: datetime, source: str, *, in_place: bool = False) -> None:
        """Begin the journal of a run over *source*: a file called by the time, made with the first line."""
        self.source = source
        self.path = folder / f"{at:%Y%m%dT%H%M%S.%f}-{os.getpid()}.jsonl"
        self._first = {
            "at": at.isoformat(), "source": source, "place": place_of(source), "in_place": in_place,
        }  # fmt: skip
        self._lock = Lock()
        self._descriptor: int | None = None
        self._begun = False

    def write(self, event: str, *, durable: bool = True, **facts: object) -> None:
        """Append a line, and wait until it is on the disk.

        Args:
            durable: False for what announces nothing, and may be lost with the power.

        Raises:
            OSError: it cannot be written, as on a full disk; then nothing of it is in the file.
        """
        with self._lock:
            if self._descriptor is None:
                self._descriptor = _open_new(self.path)
                finalize(self, os.close, self._descriptor)
            lines = line_of(event, facts)
            if not self._begun:
                lines = line_of("run", self._first) + lines
            append(self._descriptor, lines, durable=durable)
            self._begun = True


def note(folder: Path, run: str, event: str) -> None:
    """Append a line to the journal of a run that has ended."""
    descriptor = os.open(folder / f"{run}.jsonl", os.O_RDWR | os.O_APPEND)
    try:
        append(descriptor, line_of(event, {}), durable=True)
    finally:
        os.close(descriptor)


def _open_new(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    for folder in (path.parent, path.parent.parent):
        above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(above)
        os.close(above)
    return descriptor


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other run out for the block.

    Raises:
        JournalBusy: one is under way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalBusy("another migration is running over this data folder") from error
        yield


def runs(folder: Path) -> list[str]:
    """Return the names of all runs, the oldest first."""
    return sorted(path.stem for path in folder.glob("*.jsonl"))


def runs_over(folder: Path, source: str) -> list[str]:
    """Return the names of all runs over *source*, however it was named, the oldest first.

    Raises:
        ValueError: there is none.
    """
    place = place_of(source)
    found = [run for run in runs(folder) if source_of(folder, run) == place]
    if not found:
        raise ValueError(f"there is no run over {source}")
    return found


def read(folder: Path, run: str) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a run's journal; those that cannot be read are passed over: see ``unreadable``.

    Raises:
        ValueError: there is no such run.
    """
    return (told for told in _told(folder, run) if told is not None)


def unreadable(folder: Path, run: str) -> list[int]:
    """Return the numbers of lines that cannot be read, but for the last one, which a crash may cut short.

    Raises:
        ValueError: there is no such run.
    """
    told = [*_told(folder, run)]
    return [number for number, line in enumerate(told[:-1], 1) if line is None]


def source_of(folder: Path, run: str) -> str:
    """Return the source of a run, by its ``place_of``; empty if its journal was not begun.

    Raises:
        ValueError: there is no such run.
    """
    return place_in(next(_told(folder, run), None))


def _told(folder: Path, run: str) -> Iterator[Mapping[str, Any] | None]:
    path = folder / f"{run}.jsonl"
    if not run or path.parent != folder or not path.is_file():
        raise ValueError(f"there is no run {run}")
    with path.open("rb") as file:
        for line in file:
            yield parsed(line)


class Earlier:
    """What runs over a source found out; their journals are read as far as they were not yet.

    Attributes:
        layers: What was found of the layers of V1 images, by id.
        blobs: What was made of the layers of saved images, by diff id.
    """

    def __init__(self, folder: Path, source: str) -> None:
        """Know nothing yet."""
        self.layers = dict[str, LayerFacts]()
        self.blobs = dict[Digest, BlobRow]()
        self._folder, self._place = folder, place_of(source)
        self._read = dict[str, int]()
        self._others = set[str]()

    def refresh(self) -> Self:
        """Read what was written since the last time."""
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.name not in self._others:
                self._look_at(path)
        return self

    def _look_at(self, path: Path) -> None:
        offset = self._read.get(path.name, 0)
        if path.stat().st_size == offset:
            return
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written, or was cut short
                    break
                told = parsed(line)
                if not offset and place_in(told) != self._place:
                    self._others.add(path.name)
                    return
                offset += len(line)
                self._learn(told or {})
        self._read[path.name] = offset

    def _learn(self, line: Mapping[str, Any]) -> None:
        if line.get("event") == "image":
            facts = {name: line[name] for name in LayerFacts.__dataclass_fields__}
            self.layers[line["id"]] = LayerFacts(**facts)
        elif line.get("event") == "blob" and "diff_id" in line:
            made = BlobRow(Digest.parse(line["digest"]), line["size"])
            self.blobs[Digest.parse(line["diff_id"])] = made
