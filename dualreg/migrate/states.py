"""States: how far runs are, and what they left out, from a bounded part of their journals."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from dualreg.migrate import journal
from dualreg.migrate.mending import kind_of, mending
from dualreg.migrate.run import Status

#: Bytes at the end of a journal that are read for a list, and for one run.
_LISTED, _SHOWN = 256 << 10, 16 << 20
#: Tags that are shown of each reason.
_EXAMPLES = 5
#: How lines begin that say what became of something, as ``journal.format_line`` writes them.
_EVENTS = (b'{"event": "tag"', b'{"event": "image"', b'{"event": "end"', b'{"event": "undone"')
_IMPORTED = (Status.DONE, Status.SAME)


class RunStatus(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    ENDED = "ended"
    INTERRUPTED = "interrupted"
    UNDONE = "rolled back"


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run of a migration.

    Attributes:
        run: Its name.
        at: When it started; ISO 8601.
        source: What it imports.
        counts: The number of tags by what became of them.
        partial: Whether only the last part of its journal was counted.
    """

    run: str
    at: str
    source: str
    status: RunStatus
    counts: Mapping[str, int]
    partial: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Tags that a run did not import, all for the same kind of reason.

    Attributes:
        kind: What such reasons are called.
        tags: How many tags.
        mend: What to do about them.
        examples: Some of the tags, each with the reason.
    """

    kind: str
    tags: int
    mend: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is, and what it left out.

    Attributes:
        run: The run, as in lists.
        left_out: The tags that were not imported, by the kind of reason, the most frequent one first.
        bytes: How many were read from the source.
        images: How many V1 images were imported.
        verified: How many of them a checksum proves complete.
    """

    run: ListedRun
    left_out: tuple[LeftOut, ...]
    bytes: int
    images: int
    verified: int

    @property
    def is_running(self) -> bool:
        """Whether it is in progress."""
        return self.run.status is RunStatus.RUNNING


class _Read(NamedTuple):
    """The first line of a journal, lines of its end, and whether there are lines between."""

    first: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    partial: bool


def list_runs(folder: Path, *, before: str = "", limit: int) -> tuple[Sequence[ListedRun], str | None]:
    """Return up to *limit* runs, the newest first, and the last one of them if there are more.

    Args:
        before: Only runs that began before this one.
    """
    names = [each for each in reversed(journal.runs(folder)) if not before or each < before]
    running = running_in(folder)
    found = [_listed(name, _read(folder, name, _LISTED), running) for name in names[:limit]]
    return found, names[limit - 1] if len(names) > limit else None


def run_state(folder: Path, run: str) -> RunState:
    """Return how far a run is.

    Raises:
        ValueError: there is no such run.
    """
    if run not in journal.runs(folder):
        raise ValueError(f"there is no run {run}")
    read = _read(folder, run, _SHOWN)
    tags = [line for line in read.lines if line["event"] == "tag"]
    images = [line for line in read.lines if line["event"] == "image"]
    return RunState(
        _listed(run, read, running_in(folder)),
        _left_out(tags),
        sum(int(line.get("bytes", 0)) for line in tags),
        len(images),
        sum(bool(line.get("verified")) for line in images),
    )


def running_in(folder: Path) -> str:
    """Return the run that is in progress; empty: there is none."""
    names = journal.runs(folder)
    return names[-1] if names and journal.is_busy(folder) else ""


def _listed(run: str, read: _Read, running: str) -> ListedRun:
    counts = Counter(str(line["status"]) for line in read.lines if line["event"] == "tag")
    source, at = str(read.first.get("source", "")), str(read.first.get("at", ""))
    return ListedRun(run, at, source, _status(run, read, running), counts, read.partial)


def _status(run: str, read: _Read, running: str) -> RunStatus:
    if read.lines and read.lines[-1]["event"] == journal.UNDONE:
        return RunStatus.UNDONE
    if run == running:
        return RunStatus.RUNNING
    ends = [line for line in read.lines if line["event"] == "end"]
    ended = read.first.get("on_demand") or any(not end.get("stopped") for end in ends)
    return RunStatus.ENDED if ended else RunStatus.INTERRUPTED


def _left_out(tags: Sequence[Mapping[str, Any]]) -> tuple[LeftOut, ...]:
    kinds, examples = Counter[str](), dict[str, list[str]]()
    for line in tags:
        if line["status"] not in _IMPORTED:
            kind = kind_of(str(line["reason"]))
            kinds[kind] += 1
            shown = examples.setdefault(kind, [])
            if len(shown) < _EXAMPLES:
                shown.append(f"{line['source']}: {line['reason']}")
    return tuple(
        LeftOut(kind, count, mending(kind), tuple(examples[kind])) for kind, count in kinds.most_common()
    )


def _read(folder: Path, run: str, limit: int) -> _Read:
    """Read the first line, and the events of tags, images and ends in the last *limit* bytes."""
    with (folder / f"{run}.jsonl").open("rb") as file:
        first = journal.parse_line(file.readline()) or {}
        begin = file.tell()
        size = os.fstat(file.fileno()).st_size
        if partial := size - begin > limit:
            file.seek(size - limit)
            file.readline()  # the rest of a line
        return _Read(first, [*_events(file.read(limit))], partial)


def _events(text: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the lines that say what became of something."""
    for line in text.splitlines():
        if line.startswith(_EVENTS) and (parsed := journal.parse_line(line)):
            yield parsed
