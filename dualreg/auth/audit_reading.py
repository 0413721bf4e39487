"""Reading the audit log: the newest line first, in bounded pieces, however large it is.

The file is read backwards from its end, and then the files that it was moved away to, if they are beside it
and not compressed. Lines that are damaged are counted, and left out.
"""

import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dualreg.errors import PageInvalid
from dualreg.messages import json_text, safe_line
from dualreg.patterns import matches

#: Bytes that are read at a time, that a page may read, and that a line may have.
_BLOCK, _PIECE, _LONGEST = 1 << 16, 1 << 20, 1 << 16
#: How much older than the one before it a line may be: several processes write, whose clocks may differ.
_DISORDER = timedelta(minutes=10)
#: What follows the name of the log in that of a file that it was moved away to: ``.1``, ``-20260131``.
_MOVED = re.compile(r"[.-]\d[\d.-]*", re.ASCII)
_PLACE = re.compile(r"(\d{1,20})-(\d{1,19})", re.ASCII)
#: Numbers that JSON of other programs can hold.
_LARGEST = (1 << 63) - 1

Fact = str | int | bool


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line of the audit log.

    Attributes:
        at: When it was written.
        event: What kind of line it is: write, denied, admin (a command), import, and so on.
        facts: All else that it says, by name.
    """

    at: datetime
    event: str
    facts: Mapping[str, Fact]

    def fact(self, name: str) -> str:
        """Return a fact as text; empty: there is none."""
        return str(self.facts.get(name, ""))


class AuditPlace(NamedTuple):
    """Where a page of the log ended: what is before *offset* in the file of that number comes next."""

    file: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> "AuditPlace":
        """Return the place that has this text.

        Raises:
            PageInvalid: it is malformed.
        """
        match = _PLACE.fullmatch(text)
        if match is None:
            raise PageInvalid(after=text[:200])
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Return the text of the place."""
        return f"{self.file}-{self.offset}"


class WantedLines(NamedTuple):
    """Which lines are wanted; empty or None: any.

    Attributes:
        account: Of an account.
        action: With an action, such as ``push``, or a command, or a group of commands; or events of a kind.
        pattern: Of repositories that it matches.
        since, until: Not older, and not newer.
    """

    account: str = ""
    action: str = ""
    pattern: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def includes(self, line: AuditLine) -> bool:
        """Return whether a line is wanted."""
        return (
            self.account in ("", line.fact("account"))
            and (self.since is None or line.at >= self.since)
            and (self.until is None or line.at <= self.until)
            and (not self.action or self._acts(line))
            and (not self.pattern or matches(self.pattern, line.fact("repository")))
        )

    def _acts(self, line: AuditLine) -> bool:
        command = line.fact("command")
        return self.action in (line.event, line.fact("action"), command) or command.startswith(
            f"{self.action} "
        )

    def ends_at(self, at: datetime) -> bool:
        """Return whether nothing that is wanted comes after a line of that time."""
        return self.since is not None and at < self.since - _DISORDER


class AuditPage(NamedTuple):
    """Lines of the log, the newest first.

    Attributes:
        end: Where it ended; None: there is nothing else.
        damaged: How many lines were left out that are none of the log.
    """

    lines: Sequence[AuditLine]
    end: AuditPlace | None
    damaged: int


class _File(NamedTuple):
    path: Path
    number: int
    changed_at: datetime


def read_page(path: Path, wanted: WantedLines, *, limit: int, after: AuditPlace | None = None) -> AuditPage:
    """Return up to *limit* lines that are *wanted*. A page that is not the last may have fewer, or none.

    Args:
        path: The file that the log is written to.
        after: Where the page before ended.

    Raises:
        PageInvalid: the file in which the page before ended is gone.
        OSError: the log cannot be read.
    """
    found, damaged, read = list[AuditLine](), 0, 0
    files = _files(path, after)
    for number, each in enumerate(files):
        if wanted.ends_at(each.changed_at):
            break
        with each.path.open("rb") as file:
            end = after.offset if after and number == 0 else file.seek(0, 2)
            for offset, text in _lines_before(file, end):
                line = _parsed(text) if text else None
                damaged += line is None and text != b""
                if line and wanted.ends_at(line.at):
                    return AuditPage(found, None, damaged)
                if line and wanted.includes(line):
                    found.append(line)
                if len(found) == limit or read + end - offset >= _PIECE:
                    more = offset > 0 or number + 1 < len(files)
                    return AuditPage(found, AuditPlace(each.number, offset) if more else None, damaged)
            read += end
    return AuditPage(found, None, damaged)


def _files(path: Path, after: AuditPlace | None) -> Sequence[_File]:
    """Return the file of the log, and those that it was moved away to, the newest first.

    Args:
        after: Without those before the file of this place.

    Raises:
        PageInvalid: that file is gone.
        OSError: one cannot be looked at, or is no regular file.
    """
    moved = [each for each in path.parent.iterdir() if _is_moved(each.name, path.name)]
    found = [_found(each) for each in (path, *moved) if each.exists()]
    files = sorted(found, key=lambda each: (each.path == path, each.changed_at), reverse=True)
    if after is None:
        return files
    start = next((number for number, each in enumerate(files) if each.number == after.file), None)
    if start is None or files[start].path.stat().st_size < after.offset:
        raise PageInvalid(after=str(after))
    return files[start:]


def _is_moved(name: str, log: str) -> bool:
    return name.startswith(log) and _MOVED.fullmatch(name.removeprefix(log)) is not None


def _found(path: Path) -> _File:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{path} is not a file")
    return _File(path, about.st_ino, datetime.fromtimestamp(about.st_mtime, UTC))


def _lines_before(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines before *end*, the last one first, and where each begins; None: it is too long.

    Where a long line goes on, and at the end of a file, an empty one is yielded.
    """
    position, rest, is_long = end, b"", False
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        first, *whole = (file.read(size) + rest).split(b"\n")
        begins = position + len(first) + sum(len(each) + 1 for each in whole) + 1
        for line in reversed(whole):
            begins -= len(line) + 1
            yield begins, None if is_long else line
            is_long = False
        rest = first
        if len(rest) > _LONGEST:
            rest, is_long = b"", True
            yield position, b""
    if end:
        yield 0, None if is_long else rest


def _parsed(text: bytes) -> AuditLine | None:
    """Return a line; None: it is damaged."""
    try:
        document = json.loads(text)
        at = datetime.fromisoformat(document.pop("time")).astimezone(UTC)
        event = document.pop("event")
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError):
        return None
    facts = {safe_line(name): _fact(value) for name, value in document.items()}
    return AuditLine(at, safe_line(event), facts)


def _fact(value: object) -> Fact:
    """Return a value of a line as it may be shown."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) <= _LARGEST):
        return value
    return safe_line(value if isinstance(value, str) else json_text(value))
