"""The audit log is read backwards, in bounded pieces, over files that were moved away, whatever is in it."""

import gzip
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dualreg.auth import audit_reading
from dualreg.auth.audit import Audit
from dualreg.auth.audit_reading import AuditLine, AuditPlace, WantedLines, read_page
from dualreg.errors import PageInvalid

START = datetime(2026, 1, 1, tzinfo=UTC)
ANY = WantedLines()
#: What is in a log after a disk was full, or an editor was there.
DAMAGE = [
    b'{"time": "2026-01-01T00:00:00+00:00", "event": "wri', b"\0" * 700, b"[1, 2]", b"7", b'"text"', b"{}",
    b'{"time": 5, "event": "write"}', b'{"time": "yesterday", "event": "write"}', b"\xff\xfe", b"[" * 50_000,
    b'{"time": "0001-01-01T00:00:00+14:00", "event": "write"}', b"x" * 200_000, b"y" * 3_000_000,
]  # fmt: skip


def pages(path: Path, wanted: WantedLines = ANY, limit: int = 7) -> Iterator[tuple[list[AuditLine], int]]:
    """Yield the lines and the number of damaged ones of each page, of which places are texts between."""
    after: AuditPlace | None = None
    while True:
        page = read_page(path, wanted, limit=limit, after=after)
        yield [*page.lines], page.damaged
        if page.end is None:
            return
        assert page.end != after
        after = AuditPlace.parse(str(page.end))


def numbers(path: Path, wanted: WantedLines = ANY, limit: int = 7) -> list[object]:
    """Return what tells lines apart, as all pages have them."""
    return [line.facts["number"] for lines, _ in pages(path, wanted, limit) for line in lines]


def write(path: Path, count: int, first: int = 0, size: int = 0) -> None:
    """Write lines as the server does, one in a minute."""
    log = Audit(str(path))
    for number in range(first, first + count):
        facts = {"number": number, "agent": "a" * (number * 7919 % size if size else 0)}
        log.write(START + timedelta(minutes=number), "write", account=f"a{number % 3}", **facts)
    log.close()


@pytest.mark.parametrize("size", [0, 900, 40_000])
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_have_each_line_once(tmp_path: Path, size: int, limit: int) -> None:
    """The newest first, wherever blocks and pages end, with lines that are written meanwhile left out."""
    path = tmp_path / "audit.jsonl"
    write(path, 200, size=size)
    page = read_page(path, ANY, limit=limit)
    write(path, 5, first=200)
    rest = [line.facts["number"] for line in page.lines]
    while page.end:
        page = read_page(path, ANY, limit=limit, after=page.end)
        rest += [line.facts["number"] for line in page.lines]
    assert rest == [*reversed(range(200))]


def test_a_page_reads_a_bounded_piece(tmp_path: Path) -> None:
    """Of a log in which nothing matches, too: it has no lines then, and says where to go on."""
    path = tmp_path / "audit.jsonl"
    write(path, 300, size=40_000)
    found = [*pages(path, WantedLines(account="nobody"))]
    assert [lines for lines, _ in found] == [[]] * len(found)
    assert len(found) > path.stat().st_size // (audit_reading._PIECE + (1 << 17)) > 2


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    """They hide no other line, in any order, with any length; a line without an end is no exception."""
    path, order = tmp_path / "audit.jsonl", random.Random(1)  # noqa: S311 -- repeatable
    for _ in range(5):
        write(path, 30, size=2000)
        whole = path.read_bytes().splitlines()
        mixed = [*whole, *(line for line in DAMAGE if b"yyy" not in line)]
        order.shuffle(mixed)
        path.write_bytes(b"\n".join(mixed))
        found = [*pages(path)]
        assert sum(damaged for _, damaged in found) == len(mixed) - len(whole)
        expected = [json.loads(line)["number"] for line in mixed[::-1] if line in set(whole)]
        assert [line.facts["number"] for lines, _ in found for line in lines] == expected
        path.unlink()
    write(path, 3)
    path.write_bytes(path.read_bytes() + DAMAGE[-1] + b"\n")
    write(path, 3, first=3)
    assert numbers(path) == [5, 4, 3, 2, 1, 0]


def test_files_that_were_moved_away_are_read(tmp_path: Path) -> None:
    """By the time of their last line, but for compressed ones, and for other files."""
    path = tmp_path / "audit.jsonl"
    for number, name in enumerate(("audit.jsonl.2", "audit.jsonl-20260131", "audit.jsonl.1", "audit.jsonl")):
        write(tmp_path / name, 10, first=10 * number)
        last = (START + timedelta(minutes=10 * number + 9)).timestamp()
        os.utime(tmp_path / name, (last, last))
    (tmp_path / "audit.jsonl.3.gz").write_bytes(gzip.compress(path.read_bytes()))
    write(tmp_path / "audit.jsonl.old", 1, first=99)
    write(tmp_path / "audit.json", 1, first=99)
    assert numbers(path) == numbers(path, limit=1) == [*reversed(range(40))]
    middle = START + timedelta(minutes=15)
    assert numbers(path, WantedLines(since=middle)) == [*reversed(range(15, 40))]
    assert numbers(path, WantedLines(until=middle)) == [*reversed(range(16))]
    # It is moved away between two pages.
    page = read_page(path, ANY, limit=5)
    path.rename(tmp_path / "audit.jsonl.0")
    assert page.end
    assert [line.facts["number"] for line in read_page(path, ANY, limit=9, after=page.end).lines] == [
        *reversed(range(26, 35))
    ]
    (tmp_path / "audit.jsonl.0").unlink()
    with pytest.raises(PageInvalid):
        read_page(path, ANY, limit=5, after=page.end)


def test_what_is_wanted(tmp_path: Path) -> None:
    """By account, action or command, repository, and time; not by what only begins so."""
    path = tmp_path / "audit.jsonl"
    log = Audit(str(path))
    for number, facts in enumerate(
        (
            {"event": "write", "account": "ann", "action": "push", "repository": "team/app"},
            {"event": "denied", "account": "bob", "action": "pull", "repository": "team/web"},
            {"event": "admin", "command": "tag delete", "repository": "team/app", "uid": 0},
            {"event": "admin", "command": "tags"},
        )
    ):
        log.write(START + timedelta(minutes=number), number=number, **facts)  # type: ignore[arg-type]
    log.close()
    for wanted, expected in (
        (ANY, [3, 2, 1, 0]),
        (WantedLines(account="ann"), [0]),
        (WantedLines(action="push"), [0]),
        (WantedLines(action="denied"), [1]),
        (WantedLines(action="tag"), [2]),
        (WantedLines(action="tag delete"), [2]),
        (WantedLines(pattern="team/*"), [2, 1, 0]),
        (WantedLines(pattern="team/app", action="admin"), [2]),
        (WantedLines(since=START + timedelta(minutes=2)), [3, 2]),
        (WantedLines(until=START + timedelta(minutes=1)), [1, 0]),
    ):
        assert numbers(path, wanted) == expected, wanted


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    """Nor what a terminal would obey, although the file has it."""
    path = tmp_path / "audit.jsonl"
    facts = {
        "path": "/v2/?token=secret1",
        "agent": "https://u:secret2@host/ \x1b[2J",
        "list": ["?sig=secret3"],
    }
    log = Audit(str(path))
    log.write(START, "write", **facts)
    log.close()
    ((lines, _),) = pages(path)
    assert "secret" not in str(lines)
    assert all(str(value).isprintable() for value in lines[0].facts.values())


def test_there_is_no_log(tmp_path: Path) -> None:
    """An empty folder has no lines; what is no file is not waited for."""
    assert [*pages(tmp_path / "audit.jsonl")] == [([], 0)]
    (tmp_path / "empty").touch()
    assert [*pages(tmp_path / "empty")] == [([], 0)]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none/audit.jsonl"):
        with pytest.raises(OSError, match=r"not a file|none"):
            read_page(path, ANY, limit=1)
