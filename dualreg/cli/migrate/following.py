"""``migrate run --follow``: passes, one after the other, by one instance of all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from threading import Event
from typing import cast

from dualreg.assembly import catalog_of
from dualreg.catalog.leading import Duty, LeadLost, lead_when_free
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.migrate.output import print_pass
from dualreg.cli.output import echo
from dualreg.cli.progress import Interrupted
from dualreg.migrate.follow import Passes, Planned
from dualreg.migrate.run import Outcome
from dualreg.registry import Registry

#: Seconds after which an instance looks again whether another one does the work.
_NEXT_TRY = 3.0


@contextmanager
def alone(registry: Registry, stop: Event, duty: Duty = Duty.IMPORT) -> Iterator[None]:
    """Do some work for all instances in the block, which begins when no other one does, or *stop* is set.

    Raises:
        LeadLost: in the block, by the next transaction after another instance has taken over.
    """
    tries = lead_when_free(catalog_of(registry), duty, lambda: not stop.wait(_NEXT_TRY))
    with tries as led, led.fenced() if led else nullcontext():
        yield


def follow(
    passes: Passes, pause: timedelta | None, stop: Event, next_plan: Callable[[], Planned],
    *, background: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make passes, and report on each, until *stop* is set."""

    def report(name: str, outcomes: Sequence[Outcome]) -> None:
        print_pass(name, outcomes, as_json=as_json)
        if passes.refusal:
            echo(f"import paused: {passes.refusal}", err=True)

    with suppress(Interrupted):  # while a pass surveys the source
        on_failure = partial(_report_failure, background=background)
        passes.follow(cast("timedelta", pause), stop, next_plan, report, on_failure)


def _report_failure(error: Exception, number: int, *, background: bool) -> None:
    """Print why a pass failed; but raise what is a bug, and what fails in the foreground from the start."""
    if not isinstance(error, FAILURES) or isinstance(error, LeadLost) or (number == 1 and not background):
        raise error
    echo(f"import pass failed: {reason_of(error)}", err=True)
