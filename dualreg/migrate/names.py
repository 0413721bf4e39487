"""Names: which are wanted, files of them, and what to call what cannot be here under its own."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dualreg.image.names import LIBRARY
from dualreg.migrate.tag_schema import subject_head
from dualreg.patterns import matches

_TAG_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Names:
    """Which tags are wanted, by their names.

    Attributes:
        include, exclude: Patterns (``dualreg.patterns``) of ``repository:tag``, or of ``repository`` if there
            is no colon in them.
            Without an include, all are wanted that are not excluded.
        listed: Just these, ``repository:tag`` or ``repository``; None: all.
        shortened: Whether clients of the source call ``library/x`` just ``x``, so that both names choose it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    listed: frozenset[str] | None = None
    shortened: bool = False

    def choose(self, repository: str, name: str) -> bool:
        """Tell whether the tag with that full name, in *repository*, is wanted."""
        called = {*self.called(repository, repository), *self.called(repository, name)}
        if self.listed is not None and self.listed.isdisjoint(called):
            return False
        wanted = not self.include or self._matches(self.include, repository, name)
        return wanted and self.allow(repository, name)

    def allow(self, repository: str, name: str) -> bool:
        """Tell whether the tag may come along with others, as nobody excluded it."""
        return not self._matches(self.exclude, repository, name)

    def may_come(self, repository: str, tag: str) -> bool:
        """Tell whether the tag is wanted, or may come along with what it is about."""
        name = f"{repository}:{tag}"
        about = subject_head(tag) is not None and self.allow(repository, name)
        return about or self.choose(repository, name)

    def called(self, repository: str, name: str) -> tuple[str, ...]:
        """Return a name in *repository*, or its own; and without ``library/``, if clients know it so."""
        if not self.shortened or not repository.startswith(LIBRARY):
            return (name,)
        return name, name.removeprefix(LIBRARY)

    def _matches(self, patterns: Iterable[str], repository: str, name: str) -> bool:
        repositories, names = self.called(repository, repository), self.called(repository, name)
        return any(
            matches(pattern, each)
            for pattern in patterns
            for each in (names if ":" in pattern else repositories)
        )


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
