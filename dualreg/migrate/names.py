"""Names: files of them, and what to call what cannot be here under its own."""

import re
import shlex
from collections.abc import Iterable, Iterator

_TAG_LENGTH = 128


def read_mapping(lines: Iterable[str]) -> dict[str, str]:
    """Read ``OLD NEW`` lines; comments and quotes are as a shell has them.

    Raises:
        ValueError: a line is not like that.
    """
    mapping = {}
    for number, parts in _words("mapping", lines):
        if len(parts) != len(("OLD", "NEW")):
            raise ValueError(f"line {number} of the mapping: not OLD NEW")
        old, new = parts
        if (":" in old) != (":" in new):
            raise ValueError(f"line {number} of the mapping: a tag on one side only")
        mapping[old] = new
    return mapping


def read_names(lines: Iterable[str]) -> frozenset[str]:
    """Read a list of tags or repositories, one in a line; comments and quotes are as a shell has them.

    Raises:
        ValueError: a line holds more.
    """
    names = set()
    for number, parts in _words("list", lines):
        if len(parts) != 1:
            raise ValueError(f"line {number} of the list: not REPOSITORY or REPOSITORY:TAG")
        names.update(parts)
    return frozenset(names)


def propose(name: str) -> str:
    """Return a name within the grammar that is like *name*."""
    parts = (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in name.split("/"))
    return "/".join(part for part in parts if part) or "renamed"


def propose_tag(tag: str) -> str:
    """Return a tag within the grammar that is like *tag*."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", tag).lstrip("-.")[:_TAG_LENGTH] or "renamed"


def _words(what: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        try:
            parts = shlex.split(line, comments=True)
        except ValueError as error:
            raise ValueError(f"line {number} of the {what}: {error}") from error
        if parts:
            yield number, parts


def quoted(name: str) -> str:
    """Return a name as it has to be written in a file of names."""
    try:
        plain = shlex.split(name, comments=True) == [name]
    except ValueError:
        plain = False
    return name if plain else shlex.quote(name)
