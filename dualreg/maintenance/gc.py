"""Garbage collection: what was noted is looked at again after the grace, in small steps, while serving.

1. Images of upstreams that were not pulled for long go.
2. Uploads that are idle, and staged bytes without an upload, go.
3. Of a full collection: links, blobs and bytes that nothing leads to are noted, whatever was noted before.
4. Links that were noted long enough ago are reviewed: those still unused go.
5. Blobs that have had no link for long enough go, with their bytes.
6. What tags pointed at long ago is forgotten, events that were given up then, and what was deleted long ago
   and can be restored no more.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, groupby

from dualreg.catalog.dialects import batches
from dualreg.catalog.garbage import Candidate, Condemned
from dualreg.catalog.rows import KeptImage
from dualreg.image.names import RepositoryName
from dualreg.maintenance import uploads
from dualreg.registry import Registry
from dualreg.registry.garbage import Released
from dualreg.registry.kept import Keeping

#: Links or blobs in one transaction, which lasts milliseconds.
_STEP = 64


@dataclass
class Collected:
    """What a collection deleted, or would delete. The fields are keys of ``--json``.

    Attributes:
        expired: Images of upstreams that were deleted, because they were not pulled for long.
        idle_uploads: Uploads and staged bytes that were idle; *discarded*, how many of them went.
        repositories: What each repository no longer has; others may have the same blobs.
        orphans: Files in the store without a row that a full collection found; they go after the grace.
        blobs, bytes: What was deleted from the store, and its size.
        kept: What no repository has, and is kept because it can be restored.
        kept_until: When the last of it can be restored no more; None: there is none.
        complete: Whether nothing that is due was left, because the window closed.
    """

    expired: list[KeptImage] = field(default_factory=list)
    idle_uploads: int = 0
    discarded: int = 0
    repositories: dict[RepositoryName, Released] = field(default_factory=dict)
    orphans: int = 0
    blobs: int = 0
    bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    kept_until: datetime | None = None
    complete: bool = True


@dataclass(frozen=True)
class Collection:
    """One collection.

    Attributes:
        dry_run: Change nothing, but return what would be deleted now.
        keeping: How long images of upstreams stay, by the URL of the upstream and the prefix here.
        empty_repositories: Delete repositories that have no content.
        undelete: Whether what was deleted of late is kept, as the setting says.
        brief: Of a short dry run: idle uploads are counted up to this number, and upstreams with more images
            are left out, which it says by *complete*. Neither staged bytes nor what is kept are looked at.
        pace: Called before each step with the number of links or blobs in it; False ends the collection.
    """

    registry: Registry
    dry_run: bool = False
    empty_repositories: bool = False
    keeping: Mapping[str, Mapping[str, Keeping]] = field(default_factory=dict)
    undelete: bool = True
    brief: int | None = None
    pace: Callable[[int], bool] = lambda _: True

    def run(self, *, full: bool = False) -> Collected:
        """Collect what is due.

        Args:
            full: First look at everything, for what was never noted.
        """
        result, began = Collected(), time.monotonic()
        if not self.pace(0):
            result.complete = False
            return result
        if not self.dry_run:
            self.registry.collections.count()
        goes_on = self._expire(result)
        self._discard_uploads(result)
        if full and not self.dry_run:
            goes_on = goes_on and self._note_all(result)
        goes_on = goes_on and self._review(result) and self._delete(result)
        goes_on = goes_on and (self.dry_run or self._forget())
        result.complete = result.complete and goes_on
        if self.brief is None:
            self._count_kept(result)
        if not self.dry_run:
            self._note(result, time.monotonic() - began)
        return result

    def _trim_events(self) -> Iterator[int]:
        """Forget the events that were given up long ago."""
        return self.registry.webhooks.trim(self.registry.history.keep)

    def _kept_since(self) -> datetime:
        garbage = self.registry.garbage
        return garbage.kept_since() if self.undelete else self.registry.now()

    def _forget(self) -> bool:
        """Forget what was moved or deleted long ago; return False if it was ended."""
        undeletable = self.registry.garbage.expire(self._kept_since())
        gone = chain(undeletable, self.registry.history.trim(), self._trim_events())
        return all(map(self.pace, gone))

    def _count_kept(self, result: Collected) -> None:
        kept, result.kept_until = self.registry.garbage.kept(self._kept_since())
        result.kept, result.kept_bytes = kept.blobs, kept.bytes

    def _note(self, result: Collected, seconds: float) -> None:
        self.registry.collections.note_result(
            seconds,
            blobs=result.blobs,
            bytes=result.bytes,
            uploads=result.discarded,
            is_complete=result.complete,
        )

    def _expire(self, result: Collected) -> bool:
        """Delete images of upstreams that are due; return False if it was ended."""
        kept = self.registry.kept
        for upstream, keeping in self.keeping.items():
            if self.brief is not None and kept.is_large(upstream, keeping, self.brief):
                result.complete = False
                continue
            for image in kept.expired(upstream, keeping):
                if not self.pace(1):
                    return False
                if self.dry_run or kept.expire(image):
                    result.expired.append(image)
        return True

    def _discard_uploads(self, result: Collected) -> None:
        service = self.registry.uploads
        before = self.registry.now() - service.ttl
        if self.brief is not None:
            idle = len(service.idle(before, self.brief + 1))
            result.idle_uploads = min(idle, self.brief)
            result.complete = result.complete and idle <= self.brief
            return
        planned = uploads.plan(service, before)
        result.idle_uploads = len(planned.sessions) + len(planned.strays)
        if not self.dry_run:
            result.discarded = uploads.apply(service, before, planned)

    def _note_all(self, result: Collected) -> bool:
        """Note what nothing leads to; return False if it was ended."""
        if not all(self.pace(count) for count in self.registry.sweep.rows()):
            return False
        for count in self.registry.sweep.files():
            result.orphans += count
            if not self.pace(count):
                return False
        if self.empty_repositories:
            for name in self.registry.garbage.empty_repositories():
                self.registry.repositories.delete_if_empty(name)
        self.registry.sweep.finish()
        return True

    def _review(self, result: Collected) -> bool:
        """Review the candidates; return False if it was ended."""
        for name, batch in _steps(self._candidates()):
            if not self.pace(len(batch)):
                return False
            if self.dry_run:
                with self.registry.trial() as trial:
                    released = trial.garbage.review(batch)
            else:
                released = self.registry.garbage.review(batch)
            if any(released):
                known = result.repositories.get(name, Released())
                result.repositories[name] = Released(*map(sum, zip(known, released, strict=True)))
            if released.blobs and self.empty_repositories and not self.dry_run:
                self.registry.repositories.delete_if_empty(name)
        return True

    def _candidates(self) -> Iterator[Candidate]:
        garbage, last = self.registry.garbage, None
        before = garbage.due_at()
        while page := garbage.candidates(before, last):
            yield from page
            last = page[-1]

    def _delete(self, result: Collected) -> bool:
        """Delete condemned blobs; return False if it was ended."""
        for batch in batches(self._condemned(), _STEP):
            if not self.pace(len(batch)):
                return False
            kept_since = self._kept_since()
            gone = batch if self.dry_run else self.registry.garbage.delete(batch, kept_since=kept_since)
            result.blobs += len(gone)
            result.bytes += sum(each.size for each in gone)
        return True

    def _condemned(self) -> Iterator[Condemned]:
        garbage, last = self.registry.garbage, None
        before, kept_since = garbage.due_at(), self._kept_since()
        while page := garbage.condemned(before, last, kept_since=kept_since):
            yield from page
            last = page[-1]


def _steps(candidates: Iterator[Candidate]) -> Iterator[tuple[RepositoryName, Sequence[Candidate]]]:
    """Yield candidates of one repository that follow each other, a few at a time."""
    for name, group in groupby(candidates, key=lambda each: each.repository):
        for batch in batches(group, _STEP):
            yield name, batch
