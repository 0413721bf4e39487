"""``dualreg readonly``: make a running registry read-only."""

from datetime import datetime
from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute
from dualreg.registry.marks import check_reason


@click.group()
def readonly() -> None:
    """Make the registry read-only.

    It takes effect at once, in all processes that share the store. Pulls go on.
    """


@readonly.command()
@click.option("--reason", required=True, help="Show TEXT to clients.", metavar="TEXT")
@settings_options
def on(reason: str, data: Path | None, config: Path | None) -> None:
    """Refuse pushes, deletes, and imports.

    Requests that have begun are finished.
    """
    try:
        check_reason(reason)
    except ValueError as error:
        raise click.UsageError(f"--reason: {error}") from error
    with administration(data, config, changes=True, unopened=True) as admin:
        admin.service.set_readonly(reason)
    echo("The registry is read-only. To end that, run `dualreg readonly off`.")


@readonly.command()
@settings_options
def off(data: Path | None, config: Path | None) -> None:
    """Accept changes again."""
    with administration(data, config, changes=True, unopened=True) as admin:
        before = admin.service.end_readonly()
    echo("The registry accepts changes." if before.readonly else "The registry was not read-only.")


@readonly.command()
@json_option
@settings_options
def status(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show whether the registry is read-only, since when, and why."""
    with administration(data, config, unopened=True) as admin:
        found = admin.service.readonly()
    if as_json:
        facts = {"reason": found.reason, "since": found.since or ""} if found.readonly else {}
        echo_json({"readonly": found.readonly} | facts, indent=None)
    elif found.readonly:
        since = f" since {minute(datetime.fromisoformat(found.since))}" if found.since else ""
        echo(f"The registry is read-only{since}: {found.reason}")
    else:
        echo("The registry accepts changes.")
