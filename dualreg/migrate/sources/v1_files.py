"""The small files of the old registry's tree: what they are called, and what they say.

Source: docker-registry 0.5.1 to 0.9.1, ``docker_registry/``: ``toolkit.py``, ``images.py``, ``tags.py``.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote_plus

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
#: How often a name can have been encoded: each release of 0.8 and later did it once more.
_ENCODINGS = 4
#: Bytes of a list of ancestors, a checksum or a tag that are looked at.
_SMALL = 1 << 20


def decode(name: str) -> str:
    """Return a name as clients wrote it: several releases each encoded it once more.

    Bytes that are no text are replaced, so that it can be told.
    """
    name = os.fsencode(name).decode("utf-8", "replace")
    for _ in range(_ENCODINGS):
        if _ENCODED.search(name) is None:
            break
        name = unquote_plus(name)
    return name


def stated_checksums(path: Path) -> tuple[str, ...]:
    """Return what a ``_checksum`` file states: a JSON list, a JSON text, or bare text, as releases had it."""
    try:
        text = read_small(path).decode("utf-8", "replace").strip()
    except OSError:
        return ()
    value = small_json(path)
    values = value if isinstance(value, list) else [text if value is None else value]
    return tuple(each for each in values if isinstance(each, str) and each)


def listed_images(path: Path) -> Iterator[str]:
    """Yield the ids of a list of images: texts, or what clients said of each."""
    told = small_json(path)
    for each in told if isinstance(told, list) else ():
        id_ = each.get("id") if isinstance(each, dict) else each
        if isinstance(id_, str):
            yield id_


def updated(path: Path) -> datetime:
    """Return when a tag was pushed: as its side file says, else as its file's date does."""
    side = path.with_name(f"tag{path.name.removeprefix('tag_')}_json")
    told = small_json(side)
    if isinstance(told, dict):
        with suppress(ValueError, TypeError, OSError, OverflowError):
            return datetime.fromtimestamp(int(str(told.get("last_update"))), UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name."""
    return sorted(each for each in folder.iterdir() if each.is_dir())


def read_small(path: Path, limit: int = _SMALL) -> bytes:
    """Return a small file, or as much of it as is looked at.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        return file.read(limit)


def small_json(path: Path) -> object:
    """Return what a small file says; None if it says nothing that is JSON."""
    try:
        return json.loads(read_small(path))
    except (OSError, ValueError, RecursionError):
        return None
