"""The journal of a run: a line of JSON for each step, for continuing after a crash, reports and rollback.

A line is on disk before the step that it announces is made. So every step that was made is in the journal;
a step in the journal may not have been made.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self
from weakref import finalize

from dualreg.catalog.rows import BlobRow
from dualreg.filelocks import is_locked, try_lock
from dualreg.image.digest import Digest
from dualreg.messages import json_text
from dualreg.migrate.layer_facts import KnownLayers, LayerFacts
from dualreg.ownership import inherit_owner, make_folders, sync
from dualreg.transports import is_remote

#: The event of the last line of a journal whose run was rolled back.
UNDONE = "undone"
#: Mode of the files here, which name what is private: for owner and group.
_MODE = 0o640


class JournalBusy(Exception):
    """Another run holds the lock on the journals."""


class Journal:
    """The journal of a run that is in progress; its file stays open."""

    def __init__(
        self, folder: Path, at: datetime, source: str, *, in_place: bool = False, on_demand: bool = False
    ) -> None:
        """Prepare the journal of a run that starts *at*; the file is created with the first line.

        Args:
            in_place: Whether the source is this registry's own storage.
            on_demand: Whether it is of the images that clients ask for, and so without an end.
        """
        self.source = source
        self.path = folder / f"{at:%Y%m%dT%H%M%S.%f}-{os.getpid()}.jsonl"
        self._first = {
            "at": at.isoformat(), "source": source, "place": place_of(source), "in_place": in_place,
            "on_demand": on_demand,
        }  # fmt: skip
        self._lock = Lock()
        self._descriptor: int | None = None
        self._started = False

    def write(self, event: str, *, durable: bool = True, **facts: object) -> None:
        """Append a line, and wait until it is on disk.

        Args:
            durable: False for a line that announces no step, and may be lost in a power failure.

        Raises:
            OSError: the line cannot be written, because the disk is full or so; none of it is in the file.
        """
        self.write_all(event, [facts], durable=durable)

    def write_all(self, event: str, steps: Iterable[Mapping[str, object]], *, durable: bool = True) -> None:
        """Append a line with the facts of each of *steps*, as ``write``; the disk is waited for once."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = _create(self.path)
                finalize(self, os.close, self._descriptor)
            lines = b"".join(format_line(event, facts) for facts in steps)
            if not self._started:
                lines = format_line("run", self._first) + lines
            append(self._descriptor, lines, durable=durable)
            self._started = True


class EarlierRuns:
    """What runs over a source found out, according to their journals.

    Attributes:
        layers: The layers of V1 images that were read, by image id.
        blobs: What layers of saved images became, by diff ID.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.layers = KnownLayers()
        self.blobs = dict[Digest, BlobRow]()
        self._folder, self._place = folder, place_of(source)
        self._offsets = dict[str, int]()
        self._other_sources = set[str]()

    @classmethod
    def before(cls, journal: Journal) -> Self:
        """Return what the runs before that of *journal* found out, not read yet."""
        return cls(journal.path.parent, journal.source)

    def refresh(self) -> Self:
        """Read the lines that were written since the last time."""
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.name not in self._other_sources:
                self._read(path)
        return self

    def _read(self, path: Path) -> None:
        offset = self._offsets.get(path.name, 0)
        if path.stat().st_size == offset:
            return
        with path.open("rb") as file:
            file.seek(offset)
            for text in file:
                if not text.endswith(b"\n"):  # being written, or cut short by a crash
                    break
                line = parse_line(text)
                if not offset and place_in(line) != self._place:
                    self._other_sources.add(path.name)
                    return
                offset += len(text)
                self._learn(line or {})
        self._offsets[path.name] = offset

    def _learn(self, line: Mapping[str, Any]) -> None:
        if line.get("event") == "image":
            facts = {name: line[name] for name in LayerFacts.__dataclass_fields__}
            self.layers[line["id"]] = LayerFacts(**facts)
        elif line.get("event") == "blob" and "diff_id" in line:
            blob = BlobRow(Digest.parse(line["digest"]), line["size"])
            self.blobs[Digest.parse(line["diff_id"])] = blob


def format_line(event: str, facts: Mapping[str, object]) -> bytes:
    """Return a line of a journal."""
    return f"{json_text({'event': event, **facts})}\n".encode()


def parse_line(line: bytes) -> Mapping[str, Any] | None:
    """Return the event and facts of a line; None if it is damaged."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "event" in parsed else None


def append(descriptor: int, lines: bytes, *, durable: bool) -> None:
    """Append *lines*, or nothing; a line before them that a crash cut short is ended first."""
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
    """Return the canonical name of a source: paths are absolute, and symbolic links are resolved."""
    scheme, _, rest = source.partition(":")
    return source.rstrip("/") if is_remote(source) else f"{scheme}:{Path(rest).resolve()}"


def place_in(first: Mapping[str, Any] | None) -> str:
    """Return the ``place_of`` of a journal's source, from its first line; empty if that has none."""
    if first is None or first.get("event") != "run":
        return ""
    return str(first.get("place") or place_of(str(first.get("source", ""))))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other runs from starting until the block ends.

    Raises:
        JournalBusy: one is in progress.
    """
    make_folders(folder)
    with open(folder / "lock", "w", opener=partial(os.open, mode=_MODE)) as lock:
        inherit_owner(folder / "lock")
        if not try_lock(lock.fileno()):
            raise JournalBusy("another migration is running over this data directory")
        yield


def is_busy(folder: Path) -> bool:
    """Return whether a run is in progress, or a rollback."""
    return is_locked(folder / "lock")


def runs(folder: Path) -> list[str]:
    """Return the names of all runs, the oldest first."""
    return sorted(path.stem for path in folder.glob("*.jsonl"))


def runs_over(folder: Path, source: str) -> list[str]:
    """Return the names of all runs over *source*, under any of its names, the oldest first.

    Raises:
        ValueError: there is none.
    """
    place = place_of(source)
    found = [run for run in runs(folder) if source_of(folder, run) == place]
    if not found:
        raise ValueError(f"no run over {source}")
    return found


def read(folder: Path, run: str) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a run's journal, without damaged ones; see ``damaged_lines``.

    Raises:
        ValueError: there is no such run.
    """
    return (line for line in _lines(folder, run) if line is not None)


def damaged_lines(folder: Path, run: str) -> list[int]:
    """Return the numbers of damaged lines, except the last line, which a crash may have cut short.

    Raises:
        ValueError: there is no such run.
    """
    lines = [*_lines(folder, run)]
    return [number for number, line in enumerate(lines[:-1], 1) if line is None]


def source_of(folder: Path, run: str) -> str:
    """Return the ``place_of`` of a run's source; empty if its journal has no lines.

    Raises:
        ValueError: there is no such run.
    """
    return place_in(next(_lines(folder, run), None))


def append_event(folder: Path, run: str, event: str) -> None:
    """Append a line to the journal of a run that has ended."""
    descriptor = os.open(folder / f"{run}.jsonl", os.O_RDWR | os.O_APPEND)
    try:
        append(descriptor, format_line(event, {}), durable=True)
    finally:
        os.close(descriptor)


def _lines(folder: Path, run: str) -> Iterator[Mapping[str, Any] | None]:
    path = folder / f"{run}.jsonl"
    if not run or path.parent != folder or not path.is_file():
        raise ValueError(f"no run {run}")
    with path.open("rb") as file:
        for line in file:
            yield parse_line(line)


def _create(path: Path) -> int:
    make_folders(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
    inherit_owner(path)
    sync(path.parent)
    return descriptor
