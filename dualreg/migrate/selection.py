"""Choice: which tags of a source are wanted, under which names, and what keeps some of them out."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from dualreg.errors import NameInvalid, TagInvalid
from dualreg.image.names import LIBRARY, RepositoryName, Tag
from dualreg.migrate.base import Survey
from dualreg.migrate.dates import newest
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.names import Names, propose, propose_tag, quoted
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.sources.base import SourceTag

#: What a tag for an image without one begins with, before the first characters of its id.
_ORPHAN, _ORPHAN_DIGITS = "orphan-", 12


class Library(StrEnum):
    """What becomes of ``library/x``, which V1 clients also call ``x``, and V2 clients do not."""

    STRIP = "strip"
    KEEP = "keep"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tags an operator wants, and under which names.

    Attributes:
        since: Only tags that were pushed then or later.
        latest: Only so many tags of each repository, the latest ones.
        shard: Which part of how many, counted from 1; a repository is always in the same one.
        mapping: New names of repositories, or of ``repository:tag``.
        untagged: Also what no tag leads to; what is about chosen ones, as signatures, comes anyway.
    """

    names: Names = field(default_factory=Names)
    since: datetime | None = None
    latest: int | None = None
    shard: tuple[int, int] = (1, 1)
    library: Library = Library.KEEP
    mapping: Mapping[str, str] = field(default_factory=dict)
    untagged: bool = False

    def mapped(self, tag: SourceTag) -> tuple[str, str] | None:
        """Return the repository and tag that somebody wants it to become; an empty tag stays what it is."""
        for name in self.names.called(tag.repository, tag.name):
            if name in self.mapping:
                repository, _, to_tag = self.mapping[name].rpartition(":")
                return repository, to_tag
        for repository in self.names.called(tag.repository, tag.repository):
            if repository in self.mapping:
                return self.mapping[repository], ""
        return None


def make_plan(found: Survey, choice: Selection) -> list[Entry]:
    """Return a line for every tag of the source, in order."""
    return [
        replace(entry, action=PlanAction.SKIP, reason=f"{trouble.kind}: {trouble.text}") if trouble else entry
        for entry, trouble in _judged(found, choice)
    ]


def lost_tags(found: Survey, choice: Selection) -> Iterator[Finding]:
    """Yield why chosen tags cannot be taken in; a repository whose name cannot be here only once."""
    yield from dict.fromkeys(trouble for _, trouble in _judged(found, choice) if trouble)


def unmatched(found: Survey, choice: Selection) -> list[str]:
    """Return the names of the mapping and the list that name no tag or repository of the source."""
    names = choice.names
    wanted = {name for name in choice.mapping if names.choose(name.partition(":")[0], name)}
    wanted |= names.listed or frozenset()
    for tag in found.tags if wanted else ():
        wanted -= {*names.called(tag.repository, tag.repository), *names.called(tag.repository, tag.name)}
    return sorted(wanted)


def _judged(found: Survey, choice: Selection) -> list[tuple[Entry, Finding | None]]:
    """Return every tag as it is planned, and what keeps it out."""
    wanted = _wanted(found.tags, choice)
    entries = [
        entry if tag in wanted else replace(entry, action=PlanAction.LEAVE, reason=_unwanted(tag))
        for tag in found.tags
        for entry in _named(tag, choice)
    ]
    troubles = [
        _trouble(found, entry, by_date=choice.since is not None or choice.latest is not None)
        for entry in entries
    ]
    collisions = _collisions(entry for entry, trouble in zip(entries, troubles, strict=True) if not trouble)
    return [
        (entry, trouble or collisions.get(entry)) for entry, trouble in zip(entries, troubles, strict=True)
    ]


def _unwanted(tag: SourceTag) -> str:
    return "not chosen" if tag.tag else "no tag leads to it"


def _wanted(tags: Iterable[SourceTag], choice: Selection) -> set[SourceTag]:
    by_repository: dict[str, list[SourceTag]] = defaultdict(list)
    for tag in tags:
        by_repository[tag.repository].append(tag)
    wanted: set[SourceTag] = set()
    for repository, here in by_repository.items():
        if not _is_in_shard(repository, *choice.shard):
            continue
        chosen = [tag for tag in here if choice.names.choose(repository, tag.name)]
        tagged = newest([tag for tag in chosen if tag.tag and not tag.along], choice.since, choice.latest)
        wanted |= {*tagged, *_along(tagged, here, choice)}
        wanted.update(tag for tag in chosen if not tag.tag and choice.untagged)
    return wanted


def _along(tagged: Iterable[SourceTag], here: Iterable[SourceTag], choice: Selection) -> Iterator[SourceTag]:
    """Yield what is about chosen tags, as signatures are, and about that; or is chosen by its own name."""
    left = [tag for tag in here if tag.along and choice.names.allow(tag.repository, tag.name)]
    by_date = choice.since is not None or choice.latest is not None
    images = {tag.image for tag in tagged}
    while True:
        found = [
            tag
            for tag in left
            if tag.along & images
            or (tag.tag and not by_date and choice.names.choose(tag.repository, tag.name))
        ]
        if not found:
            return
        yield from found
        images = {tag.image for tag in found}
        left = [tag for tag in left if tag not in found]


def _is_in_shard(repository: str, part: int, parts: int) -> bool:
    drawn = int.from_bytes(hashlib.sha256(repository.encode()).digest()[:8])
    return drawn % parts == part - 1


def _named(tag: SourceTag, choice: Selection) -> Iterator[Entry]:
    """Yield the tag under the names that it gets."""
    mapped = choice.mapped(tag)
    repository, to_tag = (mapped[0], mapped[1] or tag.tag) if mapped else (tag.repository, tag.tag)
    if not to_tag and ":" not in tag.image:  # a V1 image is only seen under a tag
        to_tag = _ORPHAN + tag.image[:_ORPHAN_DIGITS]
    names = [repository]
    if repository.startswith(LIBRARY) and not mapped:
        short = repository.removeprefix(LIBRARY)
        names = {
            Library.STRIP: [short],
            Library.KEEP: [repository],
            Library.BOTH: [short, repository],
        }[choice.library]
    for name in names:
        yield Entry(tag.repository, tag.tag, tag.image, name, to_tag, PlanAction.IMPORT, updated=tag.stamp)


def _trouble(found: Survey, entry: Entry, *, by_date: bool) -> Finding | None:
    """Return what keeps a wanted tag out: names that cannot be here, no date, or an image that is broken."""
    if entry.action is not PlanAction.IMPORT:
        return None
    if by_date and entry.tag and not entry.updated:
        return Finding(FindingKind.UNDATED, entry.name, "nothing tells its date: choose it by its name")
    try:
        RepositoryName.parse(entry.to_repository)
        if entry.to_tag:
            Tag.parse(entry.to_tag)
        found.check(entry.repository, entry.image)
    except NameInvalid:
        text = f"map {quoted(entry.repository)} to a name such as {propose(entry.to_repository)}"
        return Finding(FindingKind.BAD_NAME, entry.repository, text)
    except TagInvalid:
        new = f"{entry.to_repository}:{propose_tag(entry.to_tag)}"
        return Finding(FindingKind.BAD_TAG, entry.name, f"map {quoted(entry.name)} to a name such as {new}")
    except Broken as error:
        return Finding(error.finding.kind, entry.name, f"{error.finding.where}: {error.finding.text}")
    return None


def _collisions(entries: Iterable[Entry]) -> Mapping[Entry, Finding]:
    """Return what to say of those that would be one tag here, and are several in the source.

    Of a name that lies twice in the source, as trees of several releases have it, the later one counts.
    """
    takers: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.action is PlanAction.IMPORT and entry.to_tag:
            takers[entry.to_repository, entry.to_tag].append(entry)
    return {entry: finding for rivals in takers.values() for entry, finding in _refused(rivals)}


def _refused(rivals: list[Entry]) -> Iterator[tuple[Entry, Finding]]:
    names = {entry.name for entry in rivals}
    latest = max(rivals, key=lambda entry: (entry.updated, entry.image))
    for entry in rivals:
        if len(names) > 1:
            others = ", ".join(sorted(names - {entry.name}))
            yield entry, Finding(FindingKind.COLLISION, entry.name, f"so would be {others}; map one")
        elif entry != latest:
            text = f"it lies twice in the source; the later one is {latest.image}"
            yield entry, Finding(FindingKind.COLLISION, entry.name, text)
