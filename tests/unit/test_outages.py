"""Outages: which exceptions they are, and how many lines of the log they take."""

import errno
import os
import sqlite3

import pytest
from sqlalchemy import exc

from dualreg.errors import AuditUnavailable
from dualreg.web.outages import LimitedLog, outage_of

FULL = "the disk of the registry is full"
DATABASE = "the database of the registry does not answer"


def database_error(kind: type[exc.DBAPIError], text: str) -> exc.DBAPIError:
    """Return the exception of SQLAlchemy about one of the driver."""
    return kind("SELECT 1", {}, sqlite3.DatabaseError(text))


@pytest.mark.parametrize(
    ("error", "message", "wait"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/x"), FULL, 60),
        (OSError(errno.EDQUOT, "quota"), FULL, 60),
        (OSError(errno.EROFS, "read-only"), "the disk of the registry is read-only", 60),
        (OSError(errno.EIO, "I/O"), "the disk of the registry fails", 60),
        (OSError(errno.EMFILE, "files"), "the registry has too many files open", 5),
        (OSError(errno.ENFILE, "files"), "the registry has too many files open", 5),
        (OSError(errno.ENOMEM, "memory"), "the registry is short of memory", 5),
        (database_error(exc.OperationalError, "database is locked"), DATABASE, 5),
        (database_error(exc.InternalError, "read-only transaction"), DATABASE, 5),
        (database_error(exc.DatabaseError, "database disk image is malformed"), DATABASE, 5),
        (AuditUnavailable("cannot write"), "the audit log of the registry cannot be written", 5),
    ],
)
def test_outages(error: Exception, message: str, wait: int) -> None:
    """Clients are given the kind of the failure and when to return, also if another was raised from it."""
    outer = RuntimeError("outer")
    outer.__cause__ = error
    for each in (error, outer):
        outage = outage_of(each)
        assert outage is not None
        assert (outage.message, outage.retry_after) == (message, wait)
        assert "\n" not in outage.reason


@pytest.mark.parametrize(
    "error",
    [
        OSError("no number"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ValueError("x"),
        database_error(exc.ProgrammingError, "syntax"),
        database_error(exc.IntegrityError, "unique"),
    ],
)
def test_mistakes_of_the_program(error: Exception) -> None:
    """What is wrong with the program itself is no outage, and keeps its traceback."""
    assert outage_of(error) is None


def test_the_log_of_many_failures() -> None:
    """Ten lines of a kind within ten seconds, then a count of the others; other kinds are not held back."""
    lines, now = list[str](), [0.0]
    log = LimitedLog(lines.append, lambda: now[0])
    for number in range(1000):
        log.line("full", f"line {number}")
    log.line("locked", "other")
    now[0] = 10.0
    log.line("full", "later")
    log.line("full", "last")
    assert lines == [*(f"line {n}" for n in range(10)), "other", "later (and 990 more like it)", "last"]
