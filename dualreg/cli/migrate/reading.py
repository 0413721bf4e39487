"""Which clients can read the tags of a source, for ``dualreg migrate inspect``."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TypedDict

from dualreg.cli.progress import interruptible, progress
from dualreg.cli.readability import Documents, Listing
from dualreg.image.facts import Facts
from dualreg.image.platform import Platform
from dualreg.image.readers import Reader
from dualreg.migrate.base import Survey
from dualreg.migrate.parallel import in_parallel
from dualreg.migrate.plan import Entry, PlanAction


class ReadingValues(TypedDict):
    """The values of ``--for`` and ``--platform``."""

    readers: Sequence[Reader]
    platform: Platform


def list_unreadable(
    found: Survey, entries: Iterable[Entry], given: ReadingValues, jobs: int, *, as_json: bool
) -> tuple[Listing, Documents]:
    """Print the tags of a source that clients cannot read as they are stored; return them as JSON has them.

    Args:
        entries: The plan; only what can be imported is looked at.
        as_json: Print nothing.
    """
    listing = Listing("TAG", readers=given["readers"], as_json=as_json)
    tags = [each for each in entries if each.tag and each.action is PlanAction.IMPORT]
    with interruptible(), progress("tags", len(tags)) as advance:
        described = list[tuple[Sequence[str], Mapping[str, object], Facts]]()
        for entry, facts in zip(tags, in_parallel(partial(_facts, found, given), tags, jobs), strict=True):
            described.append(((entry.name,), {"tag": entry.name}, facts))
            advance(1, 0)
    return listing, listing.add(described)


def _facts(found: Survey, given: ReadingValues, entry: Entry) -> Facts:
    return found.facts(entry.repository, entry.image, given["platform"])
