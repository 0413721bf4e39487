"""Selection: which tags of a source to import, under which names, and why some cannot be."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache

from dualreg.errors import NameInvalid, TagInvalid
from dualreg.image.names import LIBRARY, RepositoryName, Tag
from dualreg.migrate.base import Survey
from dualreg.migrate.dates import newest
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.names import Library, Names, Proposals, quoted
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.sources.base import SourceTag

#: The tag of an untagged V1 image: this, and so many characters of its id.
_ORPHAN, _ORPHAN_DIGITS = "orphan-", 12
#: The entries of a plan, and what keeps some of them from being imported, by their index.
_Judged = tuple[list[Entry], dict[int, Finding]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tags to import, and under which names.

    Attributes:
        since: Only tags that were pushed then or later.
        latest: Only so many tags of each repository, the latest ones.
        shard: Which of how many parts, counted from 1; a repository is always in the same part.
        library: What to call ``library/x``.
        mapping: New names of repositories, or of ``repository:tag``.
        prefix: What all repositories are below in this registry; empty: nothing.
        untagged: Also untagged images. Those about selected images, such as signatures, are always imported.
    """

    names: Names = field(default_factory=Names)
    since: datetime | None = None
    latest: int | None = None
    shard: tuple[int, int] = (1, 1)
    library: Library = Library.KEEP
    mapping: Mapping[str, str] = field(default_factory=dict)
    untagged: bool = False
    prefix: str = ""

    @property
    def by_date(self) -> bool:
        """Whether tags are selected by their dates."""
        return self.since is not None or self.latest is not None

    def mapped(self, tag: SourceTag) -> tuple[str, str] | None:
        """Return the repository and tag that a tag is mapped to; an empty tag means the same tag.

        Returns None if the mapping does not contain it.
        """
        for name in self.names.aliases(tag.repository, tag.name):
            if name in self.mapping:
                repository, _, to_tag = self.mapping[name].rpartition(":")
                return repository, to_tag
        for repository in self.names.aliases(tag.repository, tag.repository):
            if repository in self.mapping:
                return self.mapping[repository], ""
        return None


def make_plan(survey: Survey, selection: Selection) -> list[Entry]:
    """Return an entry for each name that each tag of the source gets, in the order of the source."""
    return _planned(_judge(survey, selection))


def skip_owned(entries: Iterable[Entry], owned: Mapping[str, str]) -> list[Entry]:
    """Return the entries of a plan; those are skipped that would be imported to names of upstreams.

    Args:
        owned: The URLs of upstreams by the prefixes of their names.
    """
    return [_unless_owned(entry, owned) for entry in entries]


def skip_pulled(entries: Iterable[Entry], upstream: Callable[[RepositoryName], str | None]) -> list[Entry]:
    """Return the entries of a plan; those are skipped whose repositories were pulled from an upstream.

    Args:
        upstream: Returns the URL of that, given the name of a repository; None: of none.
    """
    known = cache(upstream)
    return [
        _owned(entry, f"was pulled from {url} (setting upstreams)")
        if entry.action is PlanAction.IMPORT and (url := known(RepositoryName(entry.to_repository)))
        else entry
        for entry in entries
    ]


def lost_tags(survey: Survey, selection: Selection) -> Iterator[Finding]:
    """Yield why selected tags cannot be imported; once for a repository whose name is invalid."""
    yield from _losses(_judge(survey, selection))


def plan_and_losses(survey: Survey, selection: Selection) -> tuple[list[Entry], list[Finding]]:
    """Return what ``make_plan`` and ``lost_tags`` return, from one pass over the tags."""
    judged = _judge(survey, selection)
    return _planned(judged), [*_losses(judged)]


def unmatched(survey: Survey, selection: Selection) -> list[str]:
    """Return the names in the mapping and the list that neither a tag nor a repository of the source has."""
    names = selection.names
    wanted = {name for name in selection.mapping if names.selects(name.partition(":")[0], name)}
    wanted |= names.listed or frozenset()
    for tag in survey.tags if wanted else ():
        wanted -= {*names.aliases(tag.repository, tag.repository), *names.aliases(tag.repository, tag.name)}
    return sorted(wanted)


def _planned(judged: _Judged) -> list[Entry]:
    entries, obstacles = judged
    planned = [*entries]
    for index, obstacle in obstacles.items():
        reason = f"{obstacle.kind}: {obstacle.text}"
        planned[index] = replace(entries[index], action=PlanAction.SKIP, reason=reason)
    return planned


def _losses(judged: _Judged) -> Iterable[Finding]:
    return dict.fromkeys(obstacle for _, obstacle in sorted(judged[1].items()))


def _judge(survey: Survey, selection: Selection) -> _Judged:
    """Return the entries of the plan, and what keeps some of them from being imported."""
    selected = _selected(survey.tags, selection)
    listed = ((tag, entry) for tag in survey.tags for entry in _entries(tag, selection))
    named = ((entry.to_repository, entry.to_tag) for tag in survey.tags for entry in _entries(tag, selection))
    proposals = Proposals(named)
    entries, obstacles = list[Entry](), dict[int, Finding]()
    for index, (tag, entry) in enumerate(listed):
        if tag not in selected:
            entries.append(replace(entry, action=PlanAction.LEAVE, reason=_unselected(tag)))
            continue
        entries.append(entry)
        if obstacle := _obstacle(survey, tag, entry, proposals, by_date=selection.by_date):
            obstacles[index] = obstacle
    collisions = _collisions(entry for index, entry in enumerate(entries) if index not in obstacles)
    for index, entry in enumerate(entries) if collisions else ():
        if index not in obstacles and (collision := collisions.get(entry)):
            obstacles[index] = collision
    return entries, obstacles


def _unless_owned(entry: Entry, owned: Mapping[str, str]) -> Entry:
    """Return *entry*, skipped if it would be imported to a name of an upstream."""
    prefixes = [prefix for prefix in owned if entry.to_repository.startswith(prefix)]
    if entry.action is not PlanAction.IMPORT or not prefixes:
        return entry
    return _owned(entry, f"is a name of {owned[max(prefixes, key=len)]} (setting upstreams)")


def _owned(entry: Entry, why: str) -> Entry:
    """Return *entry*, skipped since the content of its repository comes from an upstream."""
    reason = f"{FindingKind.OWNED}: {entry.to_repository} {why}"
    return replace(entry, action=PlanAction.SKIP, reason=reason)


def _unselected(tag: SourceTag) -> str:
    return "not selected" if tag.tag or tag.lost else "untagged"


def _selected(tags: Iterable[SourceTag], selection: Selection) -> set[SourceTag]:
    by_repository: dict[str, list[SourceTag]] = defaultdict(list)
    for tag in tags:
        by_repository[tag.repository].append(tag)
    selected: set[SourceTag] = set()
    for repository, siblings in by_repository.items():
        if not _is_in_shard(repository, *selection.shard):
            continue
        chosen = [tag for tag in siblings if _is_chosen(tag, selection)]
        tagged = newest(
            [tag for tag in chosen if tag.tag and not tag.subjects], selection.since, selection.latest
        )
        selected |= {*tagged, *_attachments(tagged, siblings, selection)}
        selected.update(tag for tag in chosen if not tag.tag and (selection.untagged or _may_hide_tags(tag)))
    return selected


def _is_chosen(tag: SourceTag, selection: Selection) -> bool:
    if _may_hide_tags(tag):
        return selection.names.may_select_within(tag.repository)
    return selection.names.selects(tag.repository, tag.name)


def _may_hide_tags(tag: SourceTag) -> bool:
    """Return whether it is a repository, or a folder of some, that cannot be read."""
    return bool(tag.lost) and not (tag.tag or tag.image)


def _attachments(
    tagged: Iterable[SourceTag], siblings: Iterable[SourceTag], selection: Selection
) -> Iterator[SourceTag]:
    """Yield the images that are about selected ones, such as signatures, and the images about those.

    One that is selected by its own name is yielded as well.
    """
    left = [tag for tag in siblings if tag.subjects and selection.names.allow(tag.repository, tag.name)]
    images = {tag.image for tag in tagged}
    while True:
        found = {
            tag
            for tag in left
            if tag.subjects & images
            or (tag.tag and not selection.by_date and selection.names.selects(tag.repository, tag.name))
        }
        if not found:
            return
        yield from found
        images = {tag.image for tag in found}
        left = [tag for tag in left if tag not in found]


def _is_in_shard(repository: str, part: int, parts: int) -> bool:
    drawn = int.from_bytes(hashlib.sha256(repository.encode()).digest()[:8])
    return drawn % parts == part - 1


def _entries(tag: SourceTag, selection: Selection) -> Iterator[Entry]:
    """Yield an entry for each name that a tag gets in this registry."""
    mapped = selection.mapped(tag)
    repository, to_tag = (mapped[0], mapped[1] or tag.tag) if mapped else (tag.repository, tag.tag)
    if not (to_tag or tag.lost or ":" in tag.image):  # V1 clients see an image only under a tag
        to_tag = _ORPHAN + tag.image[:_ORPHAN_DIGITS]
    names = [repository]
    if repository.startswith(LIBRARY) and not mapped:
        short = repository.removeprefix(LIBRARY)
        names = {
            Library.STRIP: [short],
            Library.KEEP: [repository],
            Library.BOTH: [short, repository],
        }[selection.library]
    for name in names:
        to = f"{selection.prefix}/{name}" if selection.prefix else name
        yield Entry(tag.repository, tag.tag, tag.image, to, to_tag, PlanAction.IMPORT, updated=tag.stamp)


def _obstacle(
    survey: Survey, tag: SourceTag, entry: Entry, proposals: Proposals, *, by_date: bool
) -> Finding | None:
    """Return what keeps a selected tag from being imported: an invalid name, no date, or a broken image."""
    if tag.lost:
        return tag.lost
    if by_date and entry.tag and not entry.updated:
        return Finding(FindingKind.UNDATED, entry.name, "its date is unknown; select it by name")
    try:
        RepositoryName.parse(entry.to_repository)
        if entry.to_tag:
            Tag.parse(entry.to_tag)
        survey.check(entry.repository, entry.image)
    except NameInvalid:
        valid = proposals.repository(entry.to_repository)
        text = f"map {quoted(entry.repository)} to a valid name, such as {valid}"
        return Finding(FindingKind.BAD_NAME, entry.repository, text)
    except TagInvalid:
        valid = f"{entry.to_repository}:{proposals.tag(entry.to_repository, entry.to_tag)}"
        text = f"map {quoted(entry.name)} to a valid name, such as {valid}"
        return Finding(FindingKind.BAD_TAG, entry.name, text)
    except Broken as error:
        return Finding(error.finding.kind, entry.name, f"{error.finding.where}: {error.finding.text}")
    return None


def _collisions(entries: Iterable[Entry]) -> Mapping[Entry, Finding]:
    """Return a finding for each entry whose destination another entry has as well.

    A tag may be in the source twice, because releases of docker-registry differ in how they encode its name;
    then the later one is imported.
    """
    first = defaultdict[str, dict[str, Entry]](dict)
    contested = defaultdict[tuple[str, str], list[Entry]](list)
    for entry in entries:
        if entry.action is not PlanAction.IMPORT or not entry.to_tag:
            continue
        if first[entry.to_repository].setdefault(entry.to_tag, entry) is not entry:
            contested[entry.to_repository, entry.to_tag].append(entry)
    rivals = ([first[repository][tag], *others] for (repository, tag), others in contested.items())
    return {entry: finding for each in rivals for entry, finding in _refused(each)}


def _refused(rivals: list[Entry]) -> Iterator[tuple[Entry, Finding]]:
    names = {entry.name for entry in rivals}
    latest = max(rivals, key=lambda entry: (entry.updated, entry.image))
    for entry in rivals:
        if len(names) > 1:
            others = ", ".join(sorted(names - {entry.name}))
            text = f"same destination as {others}; map one of them"
            yield entry, Finding(FindingKind.COLLISION, entry.name, text)
        elif entry != latest:
            text = f"duplicate tag in source; the later one is {latest.image}"
            yield entry, Finding(FindingKind.COLLISION, entry.name, text)
