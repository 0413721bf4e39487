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
from typing import Any, Self

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

    def __init__(self, path: Path, source: str) -> None:
        """Begin or go on with *path*; a line that a crash cut short is left behind."""
        self.path, self.source = path, source
        self._lock = Lock()
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        self._file = path.open("ab")
        if torn:
            self._file.write(b"\n")

    @classmethod
    def start(cls, folder: Path, at: datetime, source: str, *, in_place: bool = False) -> Self:
        """Begin the journal of a run over *source*; its name is the time."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{at:%Y%m%dT%H%M%S.%f}.jsonl"
        journal = cls(path, source)
        journal.write("run", at=at.isoformat(), source=source, in_place=in_place)
        return journal

    def write(self, event: str, **facts: object) -> None:
        """Append a line, and wait until it is on the disk."""
        line = json.dumps({"event": event} | facts, ensure_ascii=False, default=str).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        """Close the file after the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """See ``__enter__``."""
        self._file.close()


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
