"""``dualreg readonly``: make a running registry read-only."""

from datetime import datetime
from pathlib import Path

import click

from dualreg.assembly import writes_of
from dualreg.catalog.clock import utc_now
from dualreg.cli.admin import audited, existing_settings
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute
from dualreg.errors import RegistryError
from dualreg.settings import Settings


def require_writable(settings: Settings) -> None:
    """Check that a command may add content now.

    Raises:
        click.ClickException: the registry is read-only, or its disk nearly full.
    """
    try:
        writes_of(settings).require()
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


def require_changeable(settings: Settings) -> None:
    """Check that a command may change or delete content now.

    Raises:
        click.ClickException: the registry is read-only.
    """
    try:
        writes_of(settings).require_allowed()
    except RegistryError as error:
        raise click.ClickException(f"{error}\nTo end that, run `dualreg readonly off`.") from error


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
    if not reason.strip() or not reason.isprintable():
        raise click.UsageError("--reason: expected printable characters")
    settings = existing_settings(data, config)
    with audited(settings) as record:
        writes_of(settings).set_mark(reason, utc_now())
        record("readonly on", reason=reason)
    echo("The registry is read-only. To end that, run `dualreg readonly off`.")


@readonly.command()
@settings_options
def off(data: Path | None, config: Path | None) -> None:
    """Accept changes again."""
    settings = existing_settings(data, config)
    with audited(settings) as record:
        if was_readonly := writes_of(settings).remove_mark():
            record("readonly off")
    echo("The registry accepts changes." if was_readonly else "The registry was not read-only.")


@readonly.command()
@json_option
@settings_options
def status(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show whether the registry is read-only, since when, and why."""
    marked = writes_of(existing_settings(data, config)).marked()
    if as_json:
        echo_json({"readonly": marked is not None} | (marked._asdict() if marked else {}), indent=None)
    elif marked:
        since = f" since {minute(datetime.fromisoformat(marked.since))}" if marked.since else ""
        echo(f"The registry is read-only{since}: {marked.reason}")
    else:
        echo("The registry accepts changes.")
