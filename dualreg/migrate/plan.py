"""The plan: what to do with each tag of a source, and why; JSON Lines that may be edited before the run."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum

from dualreg.messages import json_text


class PlanAction(StrEnum):
    """What to do with a tag.

    IMPORT imports it. LEAVE is for tags that were not selected; runs do not mention them. SKIP is for tags
    that were selected but cannot be imported; a run reports them, and counts as incomplete.
    """

    IMPORT = "import"
    SKIP = "skip"
    LEAVE = "leave"


def full_name(repository: str, tag: str, image: str) -> str:
    """Return ``repository:tag``; ``repository@image`` without a tag, and ``repository`` without either."""
    if tag:
        return f"{repository}:{tag}"
    return f"{repository}@{image}" if image else repository


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the plan.

    Attributes:
        repository, tag, image: In the source; the tag of an untagged image is empty, and so is the image of
            a tag or repository that cannot be read.
        to_repository, to_tag: In this registry; the tag is empty for a manifest that gets none.
        reason: Why it is not imported; empty if it is.
        updated: When the tag was pushed to the source; ISO 8601, empty if unknown.
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
        """The full name in the source, as ``full_name`` returns it."""
        return full_name(self.repository, self.tag, self.image)


def write_plan(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the lines of a plan."""
    for entry in entries:
        line = json.dumps(asdict(entry), ensure_ascii=False)
        yield line if line.isprintable() else json_text(asdict(entry))  # a terminal may show it


def read_plan(lines: Iterable[str]) -> list[Entry]:
    """Return the entries of a plan that ``write_plan`` wrote and that may have been edited.

    Raises:
        ValueError: a line is invalid, or two lines have the same destination; names the lines.
    """
    entries = []
    destinations = dict[tuple[str, str], int]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _read_entry(line)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"line {number} of the plan: {error}") from error
        entries.append(entry)
        if entry.action is PlanAction.IMPORT and entry.to_tag:
            destination = entry.to_repository, entry.to_tag
            other = destinations.setdefault(destination, number)
            if other != number:
                text = f"lines {other} and {number} of the plan: both are imported as"
                raise ValueError(f"{text} {':'.join(destination)}")
    return entries


def _read_entry(line: str) -> Entry:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    if unknown := sorted(document.keys() - {each.name for each in fields(Entry)}):
        raise ValueError(f'unknown member "{unknown[0]}"')
    required = (each.name for each in fields(Entry) if each.default is MISSING)
    if missing := [name for name in required if name not in document]:
        raise ValueError(f'no member "{missing[0]}"')
    entry = Entry(**document)
    if not all(isinstance(value, str) for value in asdict(entry).values()):
        raise ValueError("a value is not a string")
    if entry.updated and datetime.fromisoformat(entry.updated).tzinfo is None:
        raise ValueError(f"{entry.updated} has no time zone")
    if entry.action not in [*PlanAction]:
        raise ValueError(f'unknown action "{entry.action}"; expected {", ".join(PlanAction)}')
    return replace(entry, action=PlanAction(entry.action))
