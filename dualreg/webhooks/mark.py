"""The mark: a file in the data directory by which a server knows that there are webhooks.

Webhooks are rows of the catalog, which the server does not look at for that.
"""

from contextlib import suppress
from pathlib import Path

#: The name of the file.
MARK = "webhooks"


def mark(data: Path) -> None:
    """Have the server with this data directory start to deliver, if it does not."""
    with suppress(OSError):  # then it finds out later
        (data / MARK).touch()


def unmark(data: Path) -> None:
    """Note that there is nothing to deliver."""
    with suppress(OSError):
        (data / MARK).unlink()


def marked_at(data: Path) -> int | None:
    """Return when the file was last marked; None: it is not there."""
    with suppress(OSError):
        return (data / MARK).stat().st_mtime_ns
    return None
