"""Names of tags and repositories: selection by name, files of names, and proposals for invalid ones."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import count

from dualreg.errors import NameInvalid, TagInvalid
from dualreg.image.names import LIBRARY, NAME_LIMIT, RepositoryName, Tag, in_library
from dualreg.image.tag_schema import subject_prefix
from dualreg.patterns import check_pattern, has_wildcard, matches, may_match_below

_TAG_LENGTH = 128


class Library(StrEnum):
    """What to call repositories ``library/x``, which V1 clients also call ``x``, and V2 clients do not."""

    STRIP = "strip"
    KEEP = "keep"
    BOTH = "both"


def selecting(patterns: Iterable[str]) -> Callable[[str, str], bool]:
    """Return what selects the tags that one of *patterns* matches, given their repository and name.

    Args:
        patterns: Of ``REPOSITORY[:TAG]``; without any, all tags are selected.

    Raises:
        ValueError: one is invalid.
    """
    names = Names(include=tuple(map(check_pattern, patterns)))
    return lambda repository, tag: names.selects(repository, f"{repository}:{tag}")


@dataclass(frozen=True, slots=True)
class Names:
    """Which tags are selected, by name.

    Attributes:
        include, exclude: Patterns (``dualreg.patterns``) of ``repository:tag``, or of ``repository`` if there
            is no colon in them. Without an include, all tags are selected that are not excluded.
        listed: Only these, ``repository:tag`` or ``repository``; None: all.
        shortened: Whether clients of the source call ``library/x`` just ``x``, and either name selects it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    listed: frozenset[str] | None = None
    shortened: bool = False

    def selects(self, repository: str, name: str) -> bool:
        """Return whether the tag of *repository* whose full name is *name* is selected."""
        aliases = {*self.aliases(repository, repository), *self.aliases(repository, name)}
        if self.listed is not None and self.listed.isdisjoint(aliases):
            return False
        included = not self.include or self._matches(self.include, repository, name)
        return included and self.allow(repository, name)

    def may_select(self, repository: str) -> bool:
        """Return whether a tag of *repository*, whose tags are not known, may be selected."""
        aliases = self.aliases(repository, repository)
        listed = self.listed is None or not {*map(_repository, self.listed)}.isdisjoint(aliases)
        included = not self.include or any(
            matches(_repository(pattern), alias) for pattern in self.include for alias in aliases
        )
        excluded = any(
            ":" not in pattern and matches(pattern, alias) for pattern in self.exclude for alias in aliases
        )
        return listed and included and not excluded

    @property
    def repositories(self) -> frozenset[str] | None:
        """The only repositories whose tags may be selected; None: patterns decide, or nothing does."""
        named = self.listed if self.listed is not None else self.include
        found = frozenset(map(_repository, named))
        return found if found and not any(map(has_wildcard, found)) else None

    def may_select_within(self, folder: str) -> bool:
        """Return whether a tag of the repository *folder*, or of one below that name, may be selected."""
        below = f"{folder}/"
        wanted = [_repository(each) for each in (*self.include, *(self.listed or ()))]
        covered = any(":" not in pattern and matches(pattern, below) for pattern in self.exclude)
        inside = any(
            may_match_below(pattern, alias) for pattern in wanted for alias in self.aliases(below, below)
        )
        return self.may_select(folder) or (inside and not covered)

    def allow(self, repository: str, name: str) -> bool:
        """Return whether the tag may be imported with others: it is not excluded."""
        return not self._matches(self.exclude, repository, name)

    def may_be_imported(self, repository: str, tag: str) -> bool:
        """Return whether the tag is selected, or may be imported with the image that it is about."""
        name = f"{repository}:{tag}"
        about = subject_prefix(tag) is not None and self.allow(repository, name)
        return about or self.selects(repository, name)

    def aliases(self, repository: str, name: str) -> tuple[str, ...]:
        """Return *name*, of a tag of *repository* or of the repository, and its form without ``library/``."""
        if not self.shortened or not repository.startswith(LIBRARY):
            return (name,)
        return name, name.removeprefix(LIBRARY)

    def _matches(self, patterns: Iterable[str], repository: str, name: str) -> bool:
        repositories, names = self.aliases(repository, repository), self.aliases(repository, name)
        return any(
            matches(pattern, each)
            for pattern in patterns
            for each in (names if ":" in pattern else repositories)
        )


def read_mapping(lines: Iterable[str]) -> dict[str, str]:
    """Return the mapping in ``OLD NEW`` lines, with comments and quotes as in a shell.

    Raises:
        ValueError: a line is invalid.
    """
    mapping = {}
    for number, parts in _words("mapping", lines):
        if len(parts) != len(("OLD", "NEW")):
            raise ValueError(f"line {number} of the mapping: expected OLD NEW")
        old, new = parts
        if (":" in old) != (":" in new):
            raise ValueError(f"line {number} of the mapping: only one of the names has a tag")
        mapping[old] = new
    return mapping


def read_names(lines: Iterable[str]) -> frozenset[str]:
    """Return the tags and repositories in a list, one a line, with comments and quotes as in a shell.

    Raises:
        ValueError: a line has several.
    """
    names = set()
    for number, parts in _words("list", lines):
        if len(parts) != 1:
            raise ValueError(f"line {number} of the list: expected REPOSITORY or REPOSITORY:TAG")
        names.update(parts)
    return frozenset(names)


class Proposals:
    """A valid name for each invalid one, which nothing else has or is proposed.

    The same names always get the same proposals, in whatever order they are asked for. They are made when one
    is asked for: nearly always, all names are valid.
    """

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """Propose for the invalid ones of *names*: the repository and tag of everything."""
        self._names = names

    def repository(self, name: str) -> str:
        """Return the proposal for the name of a repository."""
        return self._made[0][name]

    def tag(self, repository: str, tag: str) -> str:
        """Return the proposal for a tag of *repository*."""
        return self._made[1][repository, tag]

    @cached_property
    def _made(self) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
        """The proposals, by what they replace."""
        repositories, tags = dict[str, str](), dict[tuple[str, str], str]()
        used = dict.fromkeys(self._names)
        taken = {in_library(repository) for repository, _ in used}  # as V1 clients call them
        for name in dict.fromkeys(repository for repository, _ in used):
            if not _is_valid(RepositoryName.parse, name):
                free = (new for new in _numbered(propose(name), NAME_LIMIT) if in_library(new) not in taken)
                new = repositories[name] = next(free)
                taken.add(in_library(new))
        for repository, tag in [*used]:
            if tag and not _is_valid(Tag.parse, tag):
                free = (
                    new for new in _numbered(propose_tag(tag), _TAG_LENGTH) if (repository, new) not in used
                )
                new = tags[repository, tag] = next(free)
                used[repository, new] = None
        return repositories, tags


def propose(name: str) -> str:
    """Return a valid repository name similar to *name*."""
    parts = (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in name.split("/"))
    return "/".join(part for part in parts if part)[:NAME_LIMIT].rstrip("-/") or "renamed"


def propose_tag(tag: str) -> str:
    """Return a valid tag similar to *tag*."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", tag).lstrip("-.")[:_TAG_LENGTH] or "renamed"


def _numbered(name: str, limit: int) -> Iterator[str]:
    """Yield *name*, then with one number after the other, within *limit* characters."""
    yield name
    for end in map("-{}".format, count(2)):
        yield f"{name[: limit - len(end)].rstrip('-/')}{end}"


def _is_valid(parse: Callable[[str], str], name: str) -> bool:
    try:
        parse(name)
    except (NameInvalid, TagInvalid):
        return False
    return True


def _repository(name: str) -> str:
    """Return the repository part of a name or pattern: of a tag, of a digest, or of a whole repository."""
    repository, _, digest = name.partition("@")
    return repository if digest else name.rpartition(":")[0] or name


def _words(what: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        try:
            parts = shlex.split(line, comments=True)
        except ValueError as error:
            raise ValueError(f"line {number} of the {what}: {error}") from error
        if parts:
            yield number, parts


def quoted(name: str) -> str:
    """Return a name as it is written in a file of names, quoted if necessary."""
    try:
        plain = shlex.split(name, comments=True) == [name]
    except ValueError:
        plain = False
    return name if plain else shlex.quote(name)
