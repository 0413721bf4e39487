"""``dualreg quota``: how many bytes repositories may have together."""

from pathlib import Path

import click

from dualreg.catalog.rows import QuotaRow
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, records, table
from dualreg.messages import counted
from dualreg.settings.values import parse_bytes


@click.group()
def quota() -> None:
    """Manage quotas.

    A quota limits how many bytes the repositories have together that match its pattern.
    """


@quota.command("set")
@click.argument("pattern")
@click.argument("size")
@click.option(
    "--soft", metavar="SIZE", help="Add a warning to answers to pushes when more than SIZE is used."
)
@settings_options
def set_quota(pattern: str, size: str, data: Path | None, config: Path | None, *, soft: str | None) -> None:
    """Limit how many bytes the repositories that match PATTERN have together.

    In PATTERN, * matches anything. SIZE is a number of bytes, or such as 500m or 20g. Pushes wait while what
    is used is counted.
    """
    with administration(data, config, changes=True, alone=True) as admin:
        found = admin.quotas.set(pattern, parse_bytes(size), None if soft is None else parse_bytes(soft))
    echo(f"{pattern} may have {found.size} bytes; {found.used} are used.")
    if (found.used or 0) > found.size:
        echo("Pushes that need more are refused until images are deleted and collected.")


@quota.command()
@click.argument("pattern")
@settings_options
def remove(pattern: str, data: Path | None, config: Path | None) -> None:
    """Remove the quota of PATTERN."""
    with administration(data, config, changes=True, alone=True) as admin:
        admin.quotas.remove(pattern)
    echo(f"Removed the quota of {pattern}.")


@quota.command("list")
@json_option
@settings_options
def list_quotas(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the quotas and what is used of them, in bytes."""
    with administration(data, config, alone=True) as admin:
        quotas = admin.quotas.list()
    if as_json:
        records(quotas)
        return
    table(("PATTERN", "SIZE", "SOFT", "USED"), [_cells(each) for each in quotas])
    echo(
        f"{counted(len(quotas), 'quota')}."
        if quotas
        else "No quotas. Set one:  dualreg quota set PATTERN SIZE"
    )


def _cells(row: QuotaRow) -> tuple[str, ...]:
    return (row.pattern, *("-" if each is None else str(each) for each in (row.size, row.soft, row.used)))
