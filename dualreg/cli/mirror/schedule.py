"""Mirror rules with a schedule, for as long as the server runs: a thread for each."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from dualreg.assembly import catalog_of
from dualreg.catalog.leading import LeadLost
from dualreg.cli.admin import Record
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.mirror.copying import plan_copy
from dualreg.cli.output import echo
from dualreg.migrate.mirrored import MirrorNotes
from dualreg.migrate.run import Outcome, Status
from dualreg.registry import Registry
from dualreg.remote.endpoint import RemoteError
from dualreg.settings import Settings
from dualreg.settings.mirrors import MirrorRule, next_run

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
        while not self.stop.is_set():
            now = _now()
            due = next_run(rule.schedule, notes.of(name).begun, now, since=self.began)
            if due and due <= now:
                self._copy(notes, name, rule)
            else:
                self.stop.wait(min(_LOOK, (due - now).total_seconds()) if due else _LOOK)

    def _copy(self, notes: MirrorNotes, name: str, rule: MirrorRule) -> None:
        try:
            notes.begin(name)
            copy = plan_copy(name, rule, self.settings, self.registry)
            run, outcomes = copy.run(self.stop, self.record, quiet=True)
            notes.end(name, copy.folder, run, outcomes)
            _report(name, outcomes)
        except LeadLost:
            self.stop.set()
            raise
        except (*FAILURES, RemoteError) as error:
            echo(f"mirror {name} failed: {reason_of(error)}", err=True)
            notes.fail(name, reason_of(error))
        except BaseException:
            self.stop.set()
            raise


def _report(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print what was copied, and what could not be."""
    copied = sum(each.status is Status.DONE for each in outcomes)
    failed = [each for each in outcomes if each.status in (Status.FAILED, Status.SKIPPED)]
    if copied or failed:
        echo(f"mirror {name}: {copied} copied, {len(failed)} failed", err=True)
    for each in failed:
        echo(f"mirror {name}: {each.entry.name}: {each.reason}", err=True)
