"""Plan: what would happen to every tag, and why; a file of JSON Lines that may be edited before it is run."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from dualreg.errors import NameInvalid, TagInvalid
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.sources.base import SourceTag
from dualreg.migrate.survey import Survey

_LIBRARY = "library/"


class Action(StrEnum):
    """What is done with a tag."""

    IMPORT = "import"
    SKIP = "skip"


class Library(StrEnum):
    """What becomes of ``library/x``, which V1 clients also call ``x``, and V2 clients do not."""

    STRIP = "strip"
    KEEP = "keep"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the plan.

    Attributes:
        repository, tag, image: In the source; an untagged manifest has an empty tag.
        to_repository, to_tag: Here.
        reason: Why it is skipped; empty if it is not.
        updated: When it was pushed there; ISO 8601, or empty.
    """

    repository: str
    tag: str
    image: str
    to_repository: str
    to_tag: str
    action: Action
    reason: str = ""
    updated: str = ""

    @property
    def name(self) -> str:
        """The tag's full name in the source."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.image}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tags an operator wants, and under which names.

    Attributes:
        include, exclude: Globs of ``repository:tag``; without an include, all.
        since: Only tags that were pushed then or later.
        latest: Only so many tags of each repository, the latest ones.
        mapping: New names of repositories, or of ``repository:tag``.
        untagged: Also manifests that no tag leads to; those about chosen ones, as signatures, come anyway.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: datetime | None = None
    latest: int | None = None
    library: Library = Library.KEEP
    mapping: Mapping[str, str] | None = None
    untagged: bool = False


def make_plan(found: Survey, choice: Choice) -> list[Entry]:
    """Return a line for every tag of the source, in order."""
    wanted = _wanted(found.tags, choice)
    entries = [
        _checked(found, entry)
        if tag in wanted
        else replace(entry, action=Action.SKIP, reason="not chosen" if tag.tag else "no tag leads to it")
        for tag in found.tags
        for entry in _named(tag, choice)
    ]
    return [*_without_collisions(entries)]


def write_plan(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the plan's lines."""
    for entry in entries:
        yield json.dumps(asdict(entry), ensure_ascii=False)


def read_plan(lines: Iterable[str]) -> list[Entry]:
    """Read what ``write_plan`` wrote, perhaps edited.

    Raises:
        ValueError: a line makes no sense; it says which.
    """
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(_read_entry(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number} of the plan: {error}") from error
    return entries


def _read_entry(line: str) -> Entry:
    entry = Entry(**json.loads(line))
    if not all(isinstance(value, str) for value in asdict(entry).values()):
        raise ValueError("not all of it is text")
    if entry.updated:
        datetime.fromisoformat(entry.updated)
    return replace(entry, action=Action(entry.action))


def read_mapping(lines: Iterable[str]) -> dict[str, str]:
    """Read ``OLD NEW`` lines, ``#`` before comments.

    Raises:
        ValueError: a line is not like that.
    """
    mapping = {}
    for number, line in enumerate(lines, 1):
        parts = line.partition("#")[0].split()
        if len(parts) not in (0, 2):
            raise ValueError(f"line {number} of the mapping: not OLD NEW")
        if parts:
            mapping[parts[0]] = parts[1]
    return mapping


def _wanted(tags: Iterable[SourceTag], choice: Choice) -> set[SourceTag]:
    by_repository: dict[str, list[SourceTag]] = defaultdict(list)
    for tag in tags:
        by_repository[tag.repository].append(tag)
    wanted: set[SourceTag] = set()
    for here in by_repository.values():
        chosen = [tag for tag in here if is_named(tag.name, choice.include, choice.exclude)]
        tagged = [tag for tag in chosen if tag.tag and (choice.since is None or tag.updated >= choice.since)]
        tagged.sort(key=lambda each: (each.updated, each.tag), reverse=True)
        wanted.update(tagged[: choice.latest])
        images = {tag.image for tag in tagged[: choice.latest]}
        wanted.update(tag for tag in here if not tag.tag and tag.along & images)
        wanted.update(tag for tag in chosen if not tag.tag and choice.untagged)
    return wanted


def is_named(name: str, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Tell whether globs choose *name*; without an include, all are chosen that are not excluded."""
    globs = [*include]
    included = not globs or any(fnmatchcase(name, glob) for glob in globs)
    return included and not any(fnmatchcase(name, glob) for glob in exclude)


def _named(tag: SourceTag, choice: Choice) -> Iterator[Entry]:
    """Yield the tag under the names that it gets."""
    mapping = choice.mapping or {}
    repository, to_tag = mapping.get(tag.repository, tag.repository), tag.tag
    if tag.name in mapping:
        repository, _, to_tag = mapping[tag.name].rpartition(":")
    names = [repository]
    if repository.startswith(_LIBRARY) and tag.repository not in mapping and tag.name not in mapping:
        short = repository.removeprefix(_LIBRARY)
        names = {
            Library.STRIP: [short],
            Library.KEEP: [repository],
            Library.BOTH: [short, repository],
        }[choice.library]
    for name in names:
        yield Entry(
            tag.repository, tag.tag, tag.image, name, to_tag, Action.IMPORT, updated=tag.updated.isoformat()
        )


def _checked(found: Survey, entry: Entry) -> Entry:
    """Return the entry, skipped if its names cannot be here, or its image cannot be taken in."""
    try:
        RepositoryName.parse(entry.to_repository)
        if entry.tag:
            Tag.parse(entry.to_tag)
        found.check(entry.repository, entry.image)
    except NameInvalid:
        reason = f"{Kind.BAD_NAME}: map {entry.repository} to a name such as {propose(entry.to_repository)}"
    except TagInvalid:
        reason = f"{Kind.BAD_TAG}: map {entry.name} to {entry.repository}:TAG"
    except Broken as error:
        reason = str(error)
    else:
        return entry
    return replace(entry, action=Action.SKIP, reason=reason)


def propose(name: str) -> str:
    """Return a name within the grammar that is like *name*."""
    parts = (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in name.split("/"))
    return "/".join(part for part in parts if part) or "renamed"


def _without_collisions(entries: list[Entry]) -> Iterator[Entry]:
    """Yield *entries*, without those that would be one tag here and are several in the source."""
    takers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in entries:
        if entry.action is Action.IMPORT and entry.tag:
            takers[entry.to_repository, entry.to_tag].add(entry.name)
    for entry in entries:
        names = takers[entry.to_repository, entry.to_tag]
        if entry.action is Action.IMPORT and len(names) > 1:
            others = ", ".join(sorted(names - {entry.name}))
            yield replace(
                entry, action=Action.SKIP, reason=f"{Kind.COLLISION}: so would be {others}; map one"
            )
        else:
            yield entry
