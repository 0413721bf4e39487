"""Passes of ``dualreg migrate run``: one, or one after the other for as long as the source is in use."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event

import click

from dualreg.cli.admin_log import Record
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.progress import progress
from dualreg.migrate import journal
from dualreg.migrate.base import ImportOptions, Survey
from dualreg.migrate.journal import EarlierRuns, Journal, JournalBusy
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.run import Existing, Outcome, Run, Status, skipped_by_plan
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.values import parse_duration

#: Seconds after which it is looked whether somebody else's run has ended, or the parent has.
_PAUSE = 5.0
#: Passes after which what failed is tried again, as somebody may have mended it there.
_PATIENCE = 6


@dataclass
class Passes:
    """Takes in what a source holds.

    Attributes:
        parent: The process for which this is done in the background, without a word of progress.
    """

    registry: Registry
    settings: Settings
    source: str
    manner: ImportOptions
    existing: Existing
    jobs: int
    record: Record
    parent: int | None = None
    _failed: dict[tuple[str, str], int] = field(default_factory=dict)
    _pass: int = 0

    def __post_init__(self) -> None:
        """Remember what was read from one pass to the next."""
        self._earlier = EarlierRuns(self.settings.journals, self.source)

    def run(
        self, found: Survey, entries: Sequence[Entry], stop: Event, *, unsettled: bool = False
    ) -> tuple[str, Sequence[Outcome]]:
        """Take in *entries*; return the run's name, and what became of each.

        Args:
            unsettled: Only those that are not here yet, and did not fail lately.
        """
        run = self._begin(found, stop)
        name = run.journal.path.stem
        foreseen = {each: run.predict(each) for each in entries if each.action is not PlanAction.LEAVE}
        left = [entry for entry, outcome in foreseen.items() if outcome is None]
        if unsettled:
            entries = left = [entry for entry in left if not self._has_failed(entry)]
            if not left:
                return name, ()
        run.predicted = {entry: outcome for entry, outcome in foreseen.items() if outcome}
        self.record("migrate run", run=name, source=self.source)  # now: it may be killed later
        size, quiet = found.bytes_to_read(left, self.registry, self._earlier), self.parent is not None
        with progress("tags", len(left), size, quiet=quiet) as advance:
            run.on_outcome = lambda outcome: (
                None if outcome.entry in run.predicted else advance(1, outcome.read)
            )
            return name, run.import_all(entries, self.jobs)

    def follow(
        self,
        pause: timedelta,
        stop: Event,
        look: Callable[[], tuple[Survey, Sequence[Entry]]],
        tell: Callable[[str, Sequence[Outcome]], None],
    ) -> None:
        """Make a pass, wait for *pause*, make the next one, until *stop* is set or the parent is gone.

        A pass that fails is told of, and the next one is made; unless it is the first, and nobody's child.

        Raises:
            Exception: what the first pass failed by; see ``FAILURES``.
        """
        while not stop.is_set() and not _is_orphan(self.parent):
            try:
                with journal.alone(self.settings.journals):
                    self._pass += 1
                    name, outcomes = self.run(*look(), stop, unsettled=True)
            except JournalBusy:
                stop.wait(_PAUSE)
                continue
            except FAILURES as error:
                if self._pass == 1 and self.parent is None:
                    raise
                click.echo(f"this pass failed: {reason_of(error)}", err=True)
            else:
                self._failed |= {
                    _key(each.entry): self._pass for each in outcomes if each.status is Status.FAILED
                }
                if outcomes:
                    tell(name, outcomes)
            _wait(pause, stop, self.parent)

    def _begin(self, found: Survey, stop: Event) -> Run:
        now = self.registry.now()
        in_place = found.is_store(self.registry)
        own = Journal(self.settings.journals, now, self.source, in_place=in_place)
        intake = found.importer(self.registry, own, self.manner, stop, self._earlier)
        return Run(self.registry, intake, own, self.existing, stop)

    def _has_failed(self, entry: Entry) -> bool:
        at = self._failed.get(_key(entry))
        return at is not None and self._pass < at + _PATIENCE


def foresee(
    found: Survey, entries: Iterable[Entry], registry: Registry | None, existing: Existing, folder: Path
) -> dict[Entry, Outcome | None]:
    """Return how it would go with each entry that somebody wants; None: it would be taken in.

    Args:
        registry: What it would be taken into; None: that is not made yet.
        folder: Of the journals, in which none is begun.
    """
    wanted = [entry for entry in entries if entry.action is not PlanAction.LEAVE]
    if registry is None:
        return {entry: skipped_by_plan(entry) for entry in wanted}
    unwritten = Journal(folder, registry.now(), "")
    run = Run(registry, found.importer(registry, unwritten, ImportOptions(), Event()), unwritten, existing)
    return {entry: run.predict(entry) for entry in wanted}


def _wait(pause: timedelta, stop: Event, parent: int | None) -> None:
    left = pause.total_seconds()
    while left > 0 and not stop.wait(min(left, _PAUSE)) and not _is_orphan(parent):
        left -= _PAUSE


@contextmanager
def stoppable(*, quiet: bool = False) -> Iterator[Event]:
    """Let the first SIGTERM or SIGINT ask for an end; what is begun is finished."""
    stop = Event()

    def ask(*_: object) -> None:
        if not quiet:
            click.echo("Stopping after what is begun. Run again to go on.", err=True)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def duration(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    """Read an option's value.

    Raises:
        click.BadParameter: it is no duration.
    """
    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _key(entry: Entry) -> tuple[str, str]:
    return entry.name, entry.image + entry.updated


def _is_orphan(parent: int | None) -> bool:
    return parent is not None and os.getppid() != parent
