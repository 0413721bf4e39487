"""Passes over a source: one, or one after the other for as long as the source is in use."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event

from dualreg.migrate import journal
from dualreg.migrate.base import ImportOptions, Survey
from dualreg.migrate.journal import EarlierRuns, Journal, JournalBusy
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.run import Existing, Outcome, Run, Status, skipped_by_plan
from dualreg.migrate.space import Content
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LinkMode
from dualreg.registry import Registry

#: Seconds between two attempts while another run holds the lock of the journals.
_BUSY_DELAY = 5.0
#: After this many passes, a tag that failed is tried again: the source may have been repaired.
_RETRY_PASSES = 6

#: What a source contains, and the plan for it.
Planned = tuple[Survey, Sequence[Entry]]
#: Shows progress for a block, given the number of tags and of bytes; yields a callable that takes the tags
#: and the bytes that are done since its last call.
Progress = Callable[[int, int], AbstractContextManager[Callable[[int, int], None]]]


@dataclass
class Passes:
    """Imports a source, in one pass or repeatedly.

    Attributes:
        journals: The folder of the journals.
        source: The source's name, as the operator wrote it.
        record: Called with the facts of each run when it begins.
        progress: Shows the progress of a pass.
        on_content: Called before each pass that copies with what it stores, at most.
        require: Checks that content may be added; a RegistryError ends the pass.
        refusal: Why the last pass ended so; empty: it did not.
    """

    registry: Registry
    journals: Path
    source: str
    options: ImportOptions
    existing: Existing
    jobs: int
    record: Callable[..., None]
    progress: Progress
    on_content: Callable[[Content], None] = lambda _: None
    require: Callable[[], None] = lambda: None
    refusal: str = ""
    _failed: dict[tuple[str, str], int] = field(default_factory=dict)
    _skipped: set[Entry] = field(default_factory=set)
    _pass: int = 0

    def __post_init__(self) -> None:
        self._earlier = EarlierRuns(self.journals, self.source)  # kept from one pass to the next

    def run(
        self, found: Survey, entries: Sequence[Entry], stop: Event, *, unsettled: bool = False
    ) -> tuple[str, Sequence[Outcome]]:
        """Import *entries*; return the name of the run, and the outcomes in the order of the plan.

        What was *found* is forgotten.

        Args:
            unsettled: Leave out entries that are imported already, that failed in one of the last passes, or
                that an earlier pass reported as skipped by the plan.
        """
        found.tags.clear()  # which the plan has
        run = self._begin(found, stop)
        name = run.journal.path.stem
        left = self._foresee(run, entries)
        if unsettled:
            left = [entry for entry in left if not self._has_failed(entry)]
            entries = [*left, *self._newly_skipped(entries)]
            if not entries:
                return name, ()
        if not found.is_store(self.registry.blobs.keeps):
            content = found.content(left)
            self.on_content(content.linked() if self.options.link is LinkMode.HARD else content)
        self.record("migrate run", run=name, source=self.source)  # before it begins: it may be killed
        expected = len(left), found.bytes_to_read(left, self.registry, self._earlier)
        found.forget()
        with self.progress(*expected) as advance:
            run.on_outcome = lambda outcome: (
                None if outcome.entry in run.predicted else advance(1, outcome.read)
            )
            outcomes = run.import_all(entries, self.jobs)
        self.refusal = run.stop.reason
        return name, outcomes

    def follow(
        self,
        pause: timedelta,
        stop: Event,
        next_plan: Callable[[], Planned],
        on_pass: Callable[[str, Sequence[Outcome]], None],
        on_failure: Callable[[Exception, int], None],
    ) -> None:
        """Make a pass, wait for *pause*, and make the next one, until *stop* is set.

        Args:
            next_plan: Surveys the source, and plans.
            on_pass: Called after each pass that did something, with the name of the run and the outcomes.
            on_failure: Called with the error by which a pass failed, and the number of the pass, from 1; the
                next pass is made unless this raises.
        """
        while not stop.is_set():
            try:
                with journal.exclusive(self.journals):
                    self._pass += 1
                    name, outcomes = self.run(*next_plan(), stop, unsettled=True)
            except JournalBusy:
                stop.wait(_BUSY_DELAY)
                continue
            except Exception as error:  # noqa: BLE001 -- the caller knows which of them end everything
                on_failure(error, self._pass)
            else:
                self._failed |= {
                    _key(each.entry): self._pass for each in outcomes if each.status is Status.FAILED
                }
                if outcomes:
                    on_pass(name, outcomes)
            stop.wait(pause.total_seconds())

    def _begin(self, found: Survey, stop: Event) -> Run:
        now = self.registry.now()
        in_place = found.is_store(self.registry.blobs.keeps)
        own = Journal(self.journals, now, self.source, in_place=in_place)
        until = Stop(stop, self.require)
        importer = found.importer(self.registry, own, self.options, until, self._earlier)
        return Run(self.registry, importer, own, self.existing, until)

    def _foresee(self, run: Run, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries that are to be imported, and have *run* know what becomes of the others."""
        foreseen = run.foresee(entries)
        run.predicted = {entry: outcome for entry, outcome in foreseen.items() if outcome}
        return [entry for entry, outcome in foreseen.items() if outcome is None]

    def _newly_skipped(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries that the plan skips for a reason that no earlier pass has reported."""
        skipped = [entry for entry in entries if entry.action is PlanAction.SKIP]
        fresh = [entry for entry in skipped if entry not in self._skipped]
        self._skipped = {*skipped}
        return fresh

    def _has_failed(self, entry: Entry) -> bool:
        at = self._failed.get(_key(entry))
        return at is not None and self._pass < at + _RETRY_PASSES


def foresee(
    found: Survey, entries: Iterable[Entry], registry: Registry | None, existing: Existing, journals: Path
) -> dict[Entry, Outcome | None]:
    """Return what would become of each entry that is selected; None: it would be imported.

    Args:
        registry: The registry that would import; None if it does not exist yet.
        journals: The folder of the journals; none is started.
    """
    wanted = [entry for entry in entries if entry.action is not PlanAction.LEAVE]
    if registry is None:
        return {entry: skipped_by_plan(entry) for entry in wanted}
    unwritten = Journal(journals, registry.now(), "")
    importer = found.importer(registry, unwritten, ImportOptions(), Stop())
    run = Run(registry, importer, unwritten, existing)
    return run.foresee(wanted)


def _key(entry: Entry) -> tuple[str, str]:
    return entry.name, entry.image + entry.updated
