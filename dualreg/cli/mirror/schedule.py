"""Mirror rules with a schedule, for as long as the server runs: a thread for each."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from dualreg.assembly import catalog_of
from dualreg.catalog.leading import LeadLost
from dualreg.cli.admin import Record
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.mirror.copying import Copying
from dualreg.cli.output import echo
from dualreg.migrate.journal import JournalBusy
from dualreg.migrate.mirrored import Mirrored, MirrorNotes
from dualreg.migrate.run import Outcome, Status
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.mirrors import MirrorRule
from dualreg.settings.schedules import next_run

#: Seconds between two looks at the clock, which may be set.
_LOOK = 20.0


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(frozen=True)
class Scheduled:
    """Copies by each rule whenever it is due."""

    settings: Settings
    registry: Registry
    record: Record
    stop: Event
    began: datetime = field(default_factory=_now)

    def run(self) -> None:
        """Copy until that is stopped.

        Raises:
            LeadLost: another instance has taken over.
        """
        rules = {name: rule for name, rule in self.settings.mirrors.items() if rule.schedule}
        with ThreadPoolExecutor(len(rules) or 1) as pool:
            for done in [pool.submit(self._keep, name, rule) for name, rule in rules.items()]:
                done.result()

    def _keep(self, name: str, rule: MirrorRule) -> None:
        notes = MirrorNotes(catalog_of(self.registry))
        try:
            while not self.stop.is_set():
                now = _now()
                due = due_at(rule, notes.of(name), now, since=self.began)
                if due and due <= now:
                    self._copy(name, rule)
                else:
                    self.stop.wait(min(_LOOK, (due - now).total_seconds()) if due else _LOOK)
        except BaseException:
            self.stop.set()  # the server starts this process again
            raise

    @contextmanager
    def _stopping(self) -> Iterator[Event]:
        """Yield what stops all of them."""
        yield self.stop

    def _copy(self, name: str, rule: MirrorRule) -> None:
        copying = Copying(self.settings, self.registry, self.record, self._stopping, quiet=True)
        try:
            copied = copying.by_rule(name, rule)
            _report(name, copied.outcomes)
        except JournalBusy:  # it is being run by a command
            self.stop.wait(_LOOK)
        except LeadLost:
            raise
        except FAILURES as error:
            echo(f"mirror {name} failed: {reason_of(error)}", err=True)


def due_at(
    rule: MirrorRule, done: Mirrored, now: datetime, *, since: datetime | None = None
) -> datetime | None:
    """Return when a rule is due, as ``next_run``; one whose last run did not end is due now."""
    if rule.schedule and done.is_unfinished:
        return now
    return next_run(rule.schedule, done.begun, now, since=since)


def _report(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print what was copied, and what could not be."""
    copied = sum(each.status is Status.DONE for each in outcomes)
    failed = [each for each in outcomes if each.status in (Status.FAILED, Status.SKIPPED)]
    if copied or failed:
        echo(f"mirror {name}: {copied} copied, {len(failed)} failed", err=True)
    for each in failed:
        echo(f"mirror {name}: {each.entry.name}: {each.reason}", err=True)
