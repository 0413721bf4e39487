"""The small files in the storage of docker-registry: their names and formats.

Source: docker-registry 0.5.1 to 0.9.1, ``docker_registry/``: ``toolkit.py``, ``images.py``, ``tags.py``.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_plus

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
#: How often a name may have been encoded: some releases since 0.8 encoded it again.
_ENCODINGS = 4
#: How many bytes of a list of ancestors, a checksum or a tag are read.
_SMALL = 1 << 20
#: And of the list of a repository's images, which was never pruned.
_LIST_LIMIT = 256 << 20
#: Keys with which docker-registry recorded who pushed a tag, and the names of these in the User-Agent.
_AGENT = {
    "docker_version": "docker",
    "docker_go_version": "go",
    "kernel": "kernel",
    "os": "os",
    "arch": "arch",
}

_T = TypeVar("_T")


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


def stated_checksums(path: str | Path) -> tuple[str, ...]:
    """Return the checksums in a ``_checksum`` file: a JSON list, a JSON string or plain text, by release."""
    try:
        content, _ = read_file(path)
    except OSError:
        return ()
    value = _parsed(content)
    values = value if isinstance(value, list) else [value]
    if value is None:
        values = [content.decode("utf-8", "replace").strip()]
    return tuple(each for each in values if isinstance(each, str) and each)


def listed_images(path: Path) -> Iterator[str]:
    """Yield the ids in a list of images, whose items are strings or objects as clients sent them."""
    listed = small_json(path, _LIST_LIMIT)
    for each in listed if isinstance(listed, list) else ():
        id_ = each.get("id") if isinstance(each, dict) else each
        if isinstance(id_, str):
            yield id_


def updated(path: Path, changed: float) -> datetime:
    """Return when a tag was pushed, from the file next to it, or else when its own file was *changed*."""
    with suppress(ValueError, TypeError, OSError, OverflowError):
        return datetime.fromtimestamp(int(str(_side_file(path).get("last_update"))), UTC)
    return datetime.fromtimestamp(changed, UTC)


def agent(path: Path) -> str:
    """Return the User-Agent of the client that pushed a tag, if the file next to it records it."""
    recorded = _side_file(path)
    words = ((name, recorded.get(key)) for key, name in _AGENT.items())
    return " ".join(f"{name}/{value}" for name, value in words if _is_word(value))


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # circular links
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file, or a link to one."""
    try:
        return entry.is_file()
    except OSError:
        return False


def retry_missing(attempt: Callable[[], _T]) -> _T:
    """Return the result of *attempt*, which is repeated once if a file is missing.

    A network file system may not find a file that it has just listed.
    """
    try:
        return attempt()
    except FileNotFoundError:
        return attempt()


def read_file(path: str | Path, limit: int = _SMALL) -> tuple[bytes, os.stat_result]:
    """Return at most *limit* bytes of a file, and its status.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would block
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.read(descriptor, min(found.st_size, limit)), found
    finally:
        os.close(descriptor)


def small_json(path: str | Path, limit: int = _SMALL) -> object:
    """Return the JSON in a small file; None if it cannot be read or is invalid."""
    try:
        return _parsed(read_file(path, limit)[0])
    except OSError:
        return None


def _side_file(path: Path) -> dict[str, Any]:
    """Return the content of the file next to a tag, with details of its push."""
    details = small_json(path.with_name(f"tag{path.name.removeprefix('tag_')}_json"))
    return details if isinstance(details, dict) else {}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.split()) == 1


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
