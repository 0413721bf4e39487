"""Passes of ``dualreg migrate run``: one, or one after the other for as long as the source is in use."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event

import click

from dualreg.cli.admin_log import Record
from dualreg.cli.migrate_told import counted_outcomes
from dualreg.cli.progress import progress
from dualreg.migrate import journal
from dualreg.migrate.journal import Journal, JournalBusy
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Existing, Outcome, Run, Status
from dualreg.migrate.sorts import AnySurvey, Manner, intake_of, is_in_place
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.values import parse_duration

#: Seconds after which it is looked whether somebody else's run has ended, or the parent has.
_PAUSE = 5.0


@dataclass
class Passes:
    """Takes in what a source holds."""

    registry: Registry
    settings: Settings
    source: str
    manner: Manner
    existing: Existing
    jobs: int
    record: Record
    _failed: set[tuple[str, str]] = field(default_factory=set)

    def run(
        self, found: AnySurvey, entries: Sequence[Entry], stop: Event, *, unsettled: bool = False
    ) -> tuple[str, Sequence[Outcome]]:
        """Take in *entries*; return the run's name, and what became of each.

        Args:
            unsettled: Only those that are not here yet, and did not fail before.
        """
        folder, now = self.settings.journals, self.registry.state.catalog.now()
        in_place = is_in_place(found, self.registry)
        own = Journal(folder, now, self.source, in_place=in_place)
        run = Run(
            self.registry,
            intake_of(found, self.registry, own, self.manner, stop),
            own,
            self.existing,
            stop,
        )
        if unsettled:
            entries = [*self._unsettled(run, entries)]
        if not entries and unsettled:
            return own.path.stem, ()
        self.record("migrate run", run=own.path.stem, source=self.source)  # now: it may be killed later
        with progress("tags", len(entries), found.size) as advance:
            run.told = lambda outcome: advance(1, outcome.read)
            return own.path.stem, run.all(entries, self.jobs)

    def follow(
        self,
        pause: timedelta,
        stop: Event,
        look: Callable[[], tuple[AnySurvey, Sequence[Entry]]],
        parent: int | None,
    ) -> None:
        """Make a pass, wait for *pause*, make the next one, until *stop* is set or *parent* is gone."""
        while not stop.is_set() and not _is_orphan(parent):
            try:
                with journal.alone(self.settings.journals):
                    name, outcomes = self.run(*look(), stop, unsettled=True)
            except JournalBusy:
                stop.wait(_PAUSE)
                continue
            self._failed |= {_key(each.entry) for each in outcomes if each.status is Status.FAILED}
            if outcomes:
                click.echo(f"run {name}: {counted_outcomes(outcomes)}")
            left = pause.total_seconds()
            while left > 0 and not stop.wait(min(left, _PAUSE)) and not _is_orphan(parent):
                left -= _PAUSE

    def _unsettled(self, run: Run, entries: Iterable[Entry]) -> Iterator[Entry]:
        return (each for each in entries if _key(each) not in self._failed and not run.is_settled(each))


@contextmanager
def stoppable() -> Iterator[Event]:
    """Let the first SIGTERM or SIGINT ask for an end; what is begun is finished."""
    stop = Event()

    def ask(*_: object) -> None:
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
