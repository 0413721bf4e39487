"""The small files of the old registry's tree: what they are called, and what they say.

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
#: How often a name can have been encoded: each release of 0.8 and later did it once more.
_ENCODINGS = 4
#: Bytes of a list of ancestors, a checksum or a tag that are looked at.
_SMALL = 1 << 20
#: And of a list of a repository's images, which no release ever pruned.
_LIST_LIMIT = 256 << 20
#: What the old registry noted of who pushed a tag, and how clients call it in their User-Agent.
_AGENT = {
    "docker_version": "docker",
    "docker_go_version": "go",
    "kernel": "kernel",
    "os": "os",
    "arch": "arch",
}

_T = TypeVar("_T")


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


def stated_checksums(path: str | Path) -> tuple[str, ...]:
    """Return what a ``_checksum`` file states: a JSON list, a JSON text, or bare text, as releases had it."""
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
    """Yield the ids of a list of images: texts, or what clients said of each."""
    told = small_json(path, _LIST_LIMIT)
    for each in told if isinstance(told, list) else ():
        id_ = each.get("id") if isinstance(each, dict) else each
        if isinstance(id_, str):
            yield id_


def updated(path: Path, changed: float) -> datetime:
    """Return when a tag was pushed: as its side file says, else when its own file was *changed*."""
    with suppress(ValueError, TypeError, OSError, OverflowError):
        return datetime.fromtimestamp(int(str(_side_file(path).get("last_update"))), UTC)
    return datetime.fromtimestamp(changed, UTC)


def agent(path: Path) -> str:
    """Return what the client that pushed a tag called itself, as far as the tag's side file tells."""
    told = _side_file(path)
    words = ((name, told.get(key)) for key, name in _AGENT.items())
    return " ".join(f"{name}/{value}" for name, value in words if _is_word(value))


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name.

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether there is a folder, also at the end of a link."""
    try:
        return entry.is_dir()
    except OSError:  # links that lead back to themselves
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Tell whether there is a file, also at the end of a link."""
    try:
        return entry.is_file()
    except OSError:
        return False


def patiently(attempt: Callable[[], _T]) -> _T:
    """Return what *look* does; what is not there is looked for once more.

    File systems on a network may not have what they have just listed.
    """
    try:
        return attempt()
    except FileNotFoundError:
        return attempt()


def read_file(path: str | Path, limit: int = _SMALL) -> tuple[bytes, os.stat_result]:
    """Return a small file, or as much of it as is looked at, and what its file system says of it.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for somebody to write
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        return os.read(descriptor, min(found.st_size, limit)), found
    finally:
        os.close(descriptor)


def small_json(path: str | Path, limit: int = _SMALL) -> object:
    """Return what a small file says; None if it says nothing that is JSON."""
    try:
        return _parsed(read_file(path, limit)[0])
    except OSError:
        return None


def _side_file(path: Path) -> dict[str, Any]:
    """Return what stands beside a tag."""
    told = small_json(path.with_name(f"tag{path.name.removeprefix('tag_')}_json"))
    return told if isinstance(told, dict) else {}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.split()) == 1


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
