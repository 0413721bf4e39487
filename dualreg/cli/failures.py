"""Failures of long work: what an operator can do something about is reported in one line."""

from typing import Any

import click

from dualreg.catalog.database import DatabaseFailure, failure_text
from dualreg.cli.command import SectionedCommand
from dualreg.cli.progress import Interrupted, interruptible
from dualreg.errors import AuditUnavailable, BlobDamaged, BlobMissing, CatalogUnreachable
from dualreg.messages import safe_line
from dualreg.migrate.journal import JournalBusy
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.targets.base import TargetInvalid

#: Under this key a context keeps the arguments of its command as they were typed.
ARGUMENTS = "dualreg.arguments"
#: Failures of the disk, the database, or of what they hold.
OUTAGES = (DatabaseFailure, CatalogUnreachable, AuditUnavailable, BlobMissing, BlobDamaged, OSError)
#: Failures that an operator can do something about.
FAILURES = (
    click.ClickException,
    *OUTAGES,
    ValueError,
    SourceInvalid,
    TargetInvalid,
    JournalBusy,
)


class Fatal(click.ClickException):
    """A failure after which the command cannot start or continue; it exits with 2."""

    exit_code = 2


def reason_of(error: Exception) -> str:
    """Return the message to print for one of FAILURES: in one line, unless it is a command's own."""
    if isinstance(error, click.ClickException):
        return error.message
    return safe_line(failure_text(error) if isinstance(error, DatabaseFailure) else str(error))


class MigrateCommand(SectionedCommand):
    """A command that reports failures in one line, and then exits with 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and keep them as they were typed."""
        ctx.meta[ARGUMENTS] = [*args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- click's
        """Run the command.

        Raises:
            Fatal: it fails by one of FAILURES, or is asked to end while it only reads.
        """
        try:
            with interruptible():
                return super().invoke(ctx)
        except Interrupted as error:
            raise Fatal(str(error)) from error
        except (BrokenPipeError, click.UsageError):  # click reports these itself
            raise
        except FAILURES as error:
            raise Fatal(reason_of(error)) from error


class MigrateGroup(click.Group):
    """A group of such commands."""

    command_class = MigrateCommand
