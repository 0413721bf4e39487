"""Previews: what tasks that delete something would delete now, as far as a short look finds it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import chain, islice

from dualreg.errors import ServerBusy
from dualreg.image.names import RepositoryName
from dualreg.maintenance.gc import Collected, Collection
from dualreg.maintenance.retention import RetentionRun
from dualreg.messages import counted
from dualreg.operations.retention import rule_text
from dualreg.operations.session import Session
from dualreg.registry.kept import Keeping
from dualreg.registry.verdicts import Verdict
from dualreg.settings import Settings

#: How long a look may take, in seconds, and how many links, blobs or tags of what is due it looks at.
_SECONDS, _LIMIT = 2.0, 5_000
#: How many idle uploads it counts, and of how many manifests of an upstream it looks for images that expire:
#: these are read at once.
_BRIEF = 2_000
#: When who came during a look may try again, and the longest pause between two steps of one, in seconds.
_RETRY_AFTER, _PAUSE = 5, 0.1
#: Entries that are shown.
_SHOWN = 50


@dataclass(frozen=True, slots=True)
class PreviewEntry:
    """What would be deleted: a tag, an image, or something of a repository; *why* says more."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class TaskPreview:
    """What a task would delete now.

    Attributes:
        result: In one line.
        complete: Whether all that is due was looked at; otherwise there may be more.
        entries: The first 50 of what would be deleted.
    """

    name: str
    result: str
    complete: bool
    entries: Sequence[PreviewEntry]


class _Look:
    """A look that ends after a while, and leaves half of the time to others."""

    def __init__(self) -> None:
        self._began, self._left = time.monotonic(), _LIMIT
        self._resumed = self._began

    def pace(self, count: int) -> bool:
        """Return whether there is time to look at so many more, after a pause as long as the last step."""
        self._left -= count
        time.sleep(min(time.monotonic() - self._resumed, _PAUSE))
        self._resumed = time.monotonic()
        return self._left >= 0 and self._resumed - self._began < _SECONDS


def preview_of(session: Session, name: str) -> TaskPreview:
    """Return what a task would delete now; nothing is changed.

    Raises:
        ValueError: the task deletes nothing that a rule or a time chooses, or the registry is a follower's.
        ServerBusy: this process already makes a preview.
    """
    if name not in _PREVIEWS:
        raise ValueError(f'there is no preview of "{name}", only of {", ".join(_PREVIEWS)}')
    if followed := session.settings.follow:
        raise ValueError(f"this registry follows {followed}, and deletes nothing by itself")
    if not session.previews.acquire(blocking=False):
        raise ServerBusy(retry_after=_RETRY_AFTER)
    try:
        return _PREVIEWS[name](session)
    finally:
        session.previews.release()


def keeping_of(settings: Settings) -> Mapping[str, Mapping[str, Keeping]]:
    """Return how long images of upstreams stay, by URL and prefix: several may have the same URL."""
    found = dict[str, dict[str, Keeping]]()
    for pattern, each in settings.upstreams.items():
        keeping = Keeping(each.keep, each.keep_size or None)
        found.setdefault(each.url, {})[pattern.removesuffix("*")] = keeping
    return found


def _garbage(session: Session) -> TaskPreview:
    settings, look = session.settings, _Look()
    collection = Collection(
        session.registry,
        dry_run=True,
        empty_repositories=settings.gc_empty_repositories,
        keeping=keeping_of(settings),
        brief=_BRIEF,
        pace=look.pace,
    )
    found = collection.run()
    images = counted(len(found.expired), "image") + " of upstreams"
    uploads, blobs = counted(found.idle_uploads, "idle upload"), counted(found.blobs, "blob")
    result = f"would delete {uploads}, {images}, and {blobs} of {found.bytes} bytes"
    return TaskPreview("gc", result, found.complete, [*islice(_released(found), _SHOWN)])


def _released(found: Collected) -> chain[PreviewEntry]:
    """Yield what upstreams and repositories would lose."""
    expired = (
        PreviewEntry(
            f"{each.repository}@{each.digest}",
            f"last pulled or fetched {each.used_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        )
        for each in found.expired
    )
    released = (
        PreviewEntry(
            name,
            f"loses {counted(each.manifests, 'manifest')}, {counted(each.images, 'V1 image')}, and "
            f"{counted(each.blobs, 'blob')} of {each.bytes} bytes",
        )
        for name, each in sorted(found.repositories.items())
    )
    return chain(expired, released)


def _retention(session: Session) -> TaskPreview:
    entries, look = list[PreviewEntry](), _Look()

    def note(repository: RepositoryName, verdicts: Sequence[Verdict]) -> None:
        for each in verdicts[: _SHOWN - len(entries)]:
            why = f"not kept by {'; '.join(map(rule_text, each.rules))}"
            entries.append(PreviewEntry(f"{repository}:{each.tag.name}", why))

    found = RetentionRun(session.registry, dry_run=True, deleted=note, pace=look.pace).run()
    result = f"would delete {counted(found.deleted, 'tag')} of {found.tags}"
    return TaskPreview("retention", result, found.complete, entries)


#: By the names of tasks.
_PREVIEWS: Mapping[str, Callable[[Session], TaskPreview]] = {"gc": _garbage, "retention": _retention}
