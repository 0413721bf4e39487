"""Failures of long work: what cannot be done, or not gone on with, in one readable line."""

from typing import Any

import click

from dualreg.catalog.database import DatabaseFailure, failure_text
from dualreg.cli.migrate.hints import ARGUMENTS
from dualreg.migrate.journal import JournalBusy
from dualreg.migrate.sources.base import SourceInvalid


class Fatal(click.ClickException):
    """Something without which nothing can be done; the command ends with 2."""

    exit_code = 2


#: What commands fail by for reasons that an operator can do something about.
FAILURES = (click.ClickException, DatabaseFailure, ValueError, OSError, SourceInvalid, JournalBusy)


def reason_of(error: Exception) -> str:
    """Return what to say of one of FAILURES."""
    if isinstance(error, DatabaseFailure):
        return f"the catalog fails: {failure_text(error)}"
    return error.message if isinstance(error, click.ClickException) else str(error)


class MigrateCommand(click.Command):
    """A command that says in one line what it cannot do or go on with, and ends with 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep them, for hints."""
        ctx.meta[ARGUMENTS] = [*args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- click's
        """Run it.

        Raises:
            Fatal: it cannot begin, or go on.
        """
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, click.UsageError):  # click knows what to do
            raise
        except FAILURES as error:
            raise Fatal(reason_of(error)) from error


class MigrateGroup(click.Group):
    """A group of such commands."""

    command_class = MigrateCommand
