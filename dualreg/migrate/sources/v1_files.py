"""The small files in the storage of docker-registry: their names and formats.

Source: docker-registry 0.5.1 to 0.9.1, ``docker_registry/``: ``toolkit.py``, ``images.py``, ``tags.py``.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from dualreg.migrate.sources.files import SMALL, read_file

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
#: How often a name may have been encoded: some releases since 0.8 encoded it again.
_ENCODINGS = 4
#: How many bytes of the list of a repository's images are read, which was never pruned.
_LIST_LIMIT = 256 << 20
#: Keys with which docker-registry recorded who pushed a tag, and the names of these in the User-Agent.
_AGENT = {
    "docker_version": "docker",
    "docker_go_version": "go",
    "kernel": "kernel",
    "os": "os",
    "arch": "arch",
}


def decode(name: str) -> str:
    """Return a name as clients know it; releases differ in how often they encoded it.

    Bytes that are not UTF-8 are replaced, so that the name can be printed.
    """
    name = os.fsencode(name).decode("utf-8", "replace")
    for _ in range(_ENCODINGS):
        if _ENCODED.search(name) is None:
            break
        name = unquote_plus(name)
    return name


def stated_checksums(path: str | Path, root: str | Path, *, marked: bool = False) -> tuple[str, ...]:
    """Return the checksums in a ``_checksum`` file: a JSON list, a JSON string or plain text, by release.

    Args:
        marked: Whether the image is marked as being pushed. A list then states nothing: the releases that
            wrote lists, 0.7 to 0.9, wrote the checksums of whatever had arrived, and what the client sent
            only removed the mark.
    """
    try:
        content, _ = read_file(path, root)
    except OSError:
        return ()
    value = _parsed(content)
    if marked and isinstance(value, list):
        return ()
    values = value if isinstance(value, list) else [value]
    if value is None:
        values = [content.decode("utf-8", "replace").strip()]
    return tuple(each for each in values if isinstance(each, str) and each)


def listed_images(path: Path, root: Path) -> Iterator[str]:
    """Yield the ids in a list of images, whose items are strings or objects as clients sent them."""
    listed = small_json(path, root, _LIST_LIMIT)
    for each in listed if isinstance(listed, list) else ():
        id_ = each.get("id") if isinstance(each, dict) else each
        if isinstance(id_, str):
            yield id_


def updated(path: Path, root: Path, changed: float) -> datetime:
    """Return when a tag was pushed, from the file next to it, or else when its own file was *changed*."""
    with suppress(ValueError, TypeError, OSError, OverflowError):
        return datetime.fromtimestamp(int(str(_side_file(path, root).get("last_update"))), UTC)
    return datetime.fromtimestamp(changed, UTC)


def is_side_file(path: Path, content: bytes) -> bool:
    """Return whether *path*, named like a tag, is the file next to a tag whose name begins with ``_``."""
    other = path.with_name(f"tag_{path.name.removeprefix('tag').removesuffix('_json')}")
    return path.name.endswith("_json") and (isinstance(_parsed(content), dict) or other.is_file())


def agent(path: Path, root: Path) -> str:
    """Return the User-Agent of the client that pushed a tag, if the file next to it records it."""
    recorded = _side_file(path, root)
    words = ((name, recorded.get(key)) for key, name in _AGENT.items())
    return " ".join(f"{name}/{value}" for name, value in words if _is_word(value))


def small_json(path: str | Path, root: str | Path, limit: int = SMALL) -> object:
    """Return the JSON in a small file; None if it cannot be read or is invalid."""
    try:
        return _parsed(read_file(path, root, limit)[0])
    except OSError:
        return None


def _side_file(path: Path, root: Path) -> dict[str, Any]:
    """Return the content of the file next to a tag, with details of its push."""
    details = small_json(path.with_name(f"tag{path.name.removeprefix('tag_')}_json"), root)
    return details if isinstance(details, dict) else {}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.split()) == 1


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
