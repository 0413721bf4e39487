"""Plan: what would happen to every tag, and why; a file of JSON Lines that may be edited before it is run."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum


class PlanAction(StrEnum):
    """What is done with a tag.

    IMPORT takes it in. LEAVE is for what nobody wants: nothing more is heard of it. SKIP is for what cannot
    be taken in: a run tells of it, and does not count as complete.
    """

    IMPORT = "import"
    SKIP = "skip"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the plan.

    Attributes:
        repository, tag, image: In the source; what no tag leads to has an empty tag.
        to_repository, to_tag: Here; a manifest that shall have no tag has an empty one.
        reason: Why it is not taken in; empty if it is.
        updated: When it was pushed there; ISO 8601, or empty.
    """

    repository: str
    tag: str
    image: str
    to_repository: str
    to_tag: str
    action: PlanAction
    reason: str = ""
    updated: str = ""

    @property
    def name(self) -> str:
        """The tag's full name in the source."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.image}"


def write_plan(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the plan's lines."""
    for entry in entries:
        yield json.dumps(asdict(entry), ensure_ascii=False)


def read_plan(lines: Iterable[str]) -> list[Entry]:
    """Read what ``write_plan`` wrote, perhaps edited.

    Raises:
        ValueError: a line makes no sense, or two would become one tag; it says which.
    """
    entries = []
    takers = dict[tuple[str, str], int]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _read_entry(line)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"line {number} of the plan: {error}") from error
        entries.append(entry)
        if entry.action is PlanAction.IMPORT and entry.to_tag:
            place = entry.to_repository, entry.to_tag
            other = takers.setdefault(place, number)
            if other != number:
                raise ValueError(f"lines {other} and {number} of the plan: both would be {':'.join(place)}")
    return entries


def _read_entry(line: str) -> Entry:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise TypeError("no JSON object")
    entry = Entry(**document)
    if not all(isinstance(value, str) for value in asdict(entry).values()):
        raise ValueError("not all of it is text")
    if entry.updated and datetime.fromisoformat(entry.updated).tzinfo is None:
        raise ValueError(f"{entry.updated} names no time zone")
    return replace(entry, action=PlanAction(entry.action))
