"""Journal: what a run did, line by line, so that it can go on after a crash, be told of, and be taken back.

A line is written, and on the disk, before what it announces is done; so nothing that was done is missing from
it, and what was only announced is looked at again.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest


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


class Journal:
    """Appends to a run's file."""

    def __init__(self, folder: Path, at: datetime, source: str, *, in_place: bool = False) -> None:
        """Begin the journal of a run over *source*: a file called by the time, made with the first line."""
        self.source = source
        self.path = folder / f"{at:%Y%m%dT%H%M%S.%f}-{os.getpid()}.jsonl"
        self._first = {"at": at.isoformat(), "source": source, "in_place": in_place}
        self._lock = Lock()

    def write(self, event: str, **facts: object) -> None:
        """Append a line, and wait until it is on the disk."""
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                if not file.tell():
                    file.write(_line("run", self._first))
                file.write(_line(event, facts))
                file.flush()
                os.fsync(file.fileno())


def _line(event: str, facts: Mapping[str, object]) -> bytes:
    return json.dumps({"event": event, **facts}, ensure_ascii=False, default=str).encode() + b"\n"


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


def read(folder: Path, run: str) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a run's journal; one that a crash cut short is passed over.

    Raises:
        ValueError: there is no such run.
    """
    path = folder / f"{run}.jsonl"
    if run not in runs(folder):
        raise ValueError(f"there is no run {run}")
    for line in path.read_bytes().splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            yield told


def known_layers(folder: Path, source: str) -> dict[str, LayerFacts]:
    """Return what earlier runs found out about the layers of *source*, by image id."""
    return {
        line["id"]: LayerFacts(**{name: line[name] for name in LayerFacts.__dataclass_fields__})
        for line in _earlier(folder, source)
        if line["event"] == "image"
    }


def known_blobs(folder: Path, source: str) -> dict[Digest, BlobRow]:
    """Return what earlier runs made of the layers of *source*, by diff id."""
    return {
        Digest.parse(line["diff_id"]): BlobRow(Digest.parse(line["digest"]), line["size"])
        for line in _earlier(folder, source)
        if line["event"] == "blob" and "diff_id" in line
    }


def _earlier(folder: Path, source: str) -> Iterator[Mapping[str, Any]]:
    for run in runs(folder):
        lines = read(folder, run)
        if next(lines, {}).get("source") == source:
            yield from lines
