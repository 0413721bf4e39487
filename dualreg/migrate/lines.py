"""Lines of journals: JSON, appended whole or not at all."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


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
