"""Export of tags to a target: blobs first, then manifests, and tags last."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from threading import Event

from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.graph import tags_about
from dualreg.migrate.lookup import REMEMBERED, Lookup
from dualreg.migrate.names import Names
from dualreg.migrate.parallel import pooled
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.sending import Sending, Sent
from dualreg.migrate.single_flight import Done
from dualreg.migrate.stopping import Stopped
from dualreg.migrate.targets.base import Receiver, Target
from dualreg.migrate.transfer import is_output_error
from dualreg.migrate.v1_lookup import V1Lookup
from dualreg.registry import Registry
from dualreg.remote.endpoint import RemoteError

_PAGE = 1000
#: Tags that are looked up together, at most, and written together where the target can.
_TOGETHER = 200
#: Groups of these that each thread gets, at least: all of them should have work until the end.
_GROUPS = 4
_Lookups = Mapping[RepositoryName, Lookup]


def entries_to_export(registry: Registry, names: Names) -> Iterator[Entry]:
    """Yield every selected tag, even if `bridge` hides it, and tags named after its manifests."""
    last = ""
    while True:
        page = registry.repositories.list(last=last, limit=_PAGE)
        for name in page.rows:
            tags = registry.tags.list_all(name)
            chosen = {tag for tag in tags if names.selects(name, f"{name}:{tag}")}
            others = {tag for tag in tags if names.allow(name, f"{name}:{tag}")} - chosen
            for tag in sorted(chosen | tags_about(registry, name, chosen, others)):
                yield Entry(name, tag, "", name, tag, PlanAction.IMPORT)
        if not page.more:
            return
        last = page.end


@dataclass
class Export:
    """Copies tags to a target; blobs and manifests that several tags share are sent once.

    Attributes:
        stop: Set from outside to stop early: what was started is finished first.
        on_outcome: Called with each outcome.
        convert_schema1: Convert schema 1 even if the target takes it.
        on_blob: Called with each blob that was sent, and its repository.
    """

    registry: Registry
    target: Target
    stop: Event = field(default_factory=Event)
    on_outcome: Callable[[Outcome], None] = lambda _: None
    convert_schema1: bool = False
    on_blob: Callable[[RepositoryName, BlobRow], None] = lambda *_: None
    _sent: Sent = field(default_factory=Sent)

    def export_all(self, entries: Sequence[Entry], jobs: int) -> Sequence[Outcome]:
        """Export *entries*, *jobs* at a time if the target allows it; return their outcomes in order."""
        left, outcomes = Counter(entry.repository for entry in entries), list[Outcome]()
        jobs = 1 if self.target.one_by_one else jobs
        with ThreadPoolExecutor(jobs) as pool:
            for group in pooled(pool, self._export_group, self._groups(entries, jobs)):
                outcomes += group
                self._forget(left, group)
        self.target.finish()
        return outcomes

    def _groups(self, entries: Sequence[Entry], jobs: int) -> Iterator[Sequence[Entry]]:
        """Yield entries that a thread exports one after the other: one by one where each takes its time."""
        size = 1
        if self.target.one_by_one or self.target.is_quick:
            size = min(_TOGETHER, len(entries) // (jobs * _GROUPS) + 1)
        return (entries[first : first + size] for first in range(0, len(entries), size))

    def _forget(self, left: Counter[str], group: Sequence[Outcome]) -> None:
        """Forget what was sent of repositories of which no tag is *left*."""
        for outcome in group:
            repository = outcome.entry.repository
            left[repository] -= 1
            if not left[repository]:
                self._sent.done.forget(repository)
                self.target.forget(RepositoryName(repository))

    def _export_group(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        try:
            return self._export_together(self._lookups(entries), entries)
        except BaseException:
            self.stop.set()  # every other tag would fail, too
            raise

    def _lookups(self, entries: Sequence[Entry]) -> _Lookups:
        """Look up what *entries* need, by repository."""
        found = dict[RepositoryName, Lookup]()
        make = V1Lookup if self.target.shows_v1 else Lookup
        share = REMEMBERED // len({entry.repository for entry in entries})
        for repository, own in groupby(entries, lambda entry: entry.repository):
            lookup = found.setdefault(name := RepositoryName(repository), make(self.registry, name, share))
            if not self.stop.is_set():
                lookup.look_ahead([Tag(entry.tag) for entry in own])
        return found

    def _export_together(self, lookups: _Lookups, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Export *entries* in as few steps as the target needs."""
        outcomes = list[Outcome]()
        while left := entries[len(outcomes) :]:
            done = self._export_step(lookups, left)
            for outcome in done:
                self.on_outcome(outcome)
            outcomes += done
        return outcomes

    def _export_step(self, lookups: _Lookups, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Export the first of *entries*, as many as fit into a step; one by one if that fails."""
        done, outcomes = Done(), list[Outcome]()
        try:
            with self.target.step() as step:
                while len(outcomes) < len(entries) and not (outcomes and step.is_full):
                    outcomes.append(self._outcome(lookups, entries[len(outcomes)], step, done))
        except OSError as error:
            if is_output_error(error):
                raise
            if len(outcomes) <= 1:
                return [_failed(entries[0], error)]
            alone = [self._export_step(lookups, [entry]) for entry in entries[: len(outcomes)]]
            return [outcome for each in alone for outcome in each]
        self._sent.done.take(done)
        return outcomes

    def _outcome(self, lookups: _Lookups, entry: Entry, receiver: Receiver, done: Done) -> Outcome:
        """Send an entry; return what became of it."""
        try:
            return self._sending(lookups, entry, receiver, done).send(entry)
        except Stopped:
            return Outcome(entry, Status.STOPPED, "run again to continue")
        except (Broken, RemoteError) as error:
            return Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing, ValueError) as error:  # or no JSON any more
            return Outcome(entry, Status.FAILED, f"incomplete in this registry: {error}")
        except OSError as error:
            if is_output_error(error):
                raise
            return _failed(entry, error)

    def _sending(self, lookups: _Lookups, entry: Entry, receiver: Receiver, done: Done) -> Sending:
        name = RepositoryName(entry.repository)
        return Sending(
            lookups[name],
            self.target,
            receiver,
            self._sent,
            done,
            self.stop,
            self.convert_schema1,
            partial(self.on_blob, name),
        )


def _failed(entry: Entry, error: OSError) -> Outcome:
    return Outcome(entry, Status.FAILED, f"read or write failed: {error}")
