"""Options that every command takes, and the settings that they and the environment make."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from dualreg.cli.output import echo
from dualreg.settings import Settings, SettingsInvalid

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(command: Command) -> Command:
    """Add ``--data`` and ``--config``, which every command takes."""
    path = click.Path(path_type=Path)
    return with_options(
        command,
        click.option("--data", type=path, help="Use the store and database in PATH."),
        click.option(
            "--config",
            type=path,
            help="Read settings from PATH.  [default: ./dualreg.toml or /etc/dualreg/dualreg.toml]",
        ),
    )


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return with_options(command, click.option("--json", "as_json", is_flag=True, help="Print JSON."))


def with_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Return *command* with *options*, which the help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def client_names(text: str, known: Collection[str]) -> Sequence[str]:
    """Return the names of clients in *text*, separated by commas, each once.

    Raises:
        click.BadParameter: one is not *known*.
    """
    names = [*dict.fromkeys(name.strip() for name in text.split(","))]
    for name in names:
        if name not in known:
            raise click.BadParameter(f'unknown client "{name}"; known are {", ".join(known)}')
    return names


def parse_time(text: str) -> datetime:
    """Return a time; one without an offset is local.

    Raises:
        click.ClickException: it is none.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.ClickException(f"{text} is not a time; give one such as 2026-01-31T12:00Z") from error


def environment() -> Mapping[str, str]:
    """Return the environment."""
    return os.environ


def export(name: str, value: str) -> None:
    """Set a variable of the environment, for a library that reads it, in this process and its children."""
    os.environ[name] = value


def announce_registry(settings: Settings) -> None:
    """Print on standard error which registry is meant: its data directory, and what chose it."""
    echo(f"Registry: {settings.data.absolute()} ({settings.origin('data')})", err=True)


def load_settings(config: Path | None, **flags: object) -> Settings:
    """Return the settings of this process; flags override the environment, which overrides the file.

    Raises:
        click.ClickException: a setting is invalid; the message names it.
    """
    try:
        return Settings.from_env(os.environ, config=config, flags=flags)
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from error
