"""What every command has: the settings it runs with, and failure in one readable line."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from dualreg.assembly import open_registry, prepare
from dualreg.catalog.database import is_absent
from dualreg.errors import CatalogUnreachable
from dualreg.registry import Registry
from dualreg.settings import Settings, SettingsInvalid

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(command: Command) -> Command:
    """Add ``--data`` and ``--config``, which every command takes."""
    data = click.option("--data", type=click.Path(path_type=Path), help="Folder of the store and database.")
    config = click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="Configuration file; default: ./dualreg.toml if there.",
    )
    return data(config(command))


def environment() -> Mapping[str, str]:
    """Return the environment."""
    return os.environ


def prepare_or_fail(settings: Settings) -> None:
    """Make the catalog ready.

    Raises:
        click.ClickException: it cannot be opened, its folder cannot be made, or its URL is none.
    """
    try:
        prepare(settings)
    except (CatalogUnreachable, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def prepared_registry(
    data: Path | None, config: Path | None, *, alone: bool = False
) -> Iterator[tuple[Registry, Settings]]:
    """Open the configured registry, with its settings, for the block.

    Args:
        alone: Without the legacy source.

    Raises:
        click.ClickException: a setting is wrong, or the catalog cannot be opened.
    """
    settings = load_settings(config, data=data)
    prepare_or_fail(settings)
    registry = open_registry(settings, alone=alone)
    try:
        yield registry, settings
    finally:
        registry.close()


@contextmanager
def existing_registry(settings: Settings) -> Iterator[Registry | None]:
    """Open the registry of *settings* for the block, without the legacy source; None: it is not made yet.

    Raises:
        click.ClickException: the catalog cannot be opened.
    """
    if is_absent(settings.database_url):
        yield None
        return
    prepare_or_fail(settings)
    registry = open_registry(settings, alone=True)
    try:
        yield registry
    finally:
        registry.close()


def load_settings(config: Path | None, **flags: object) -> Settings:
    """Return the settings of this run; flags win over the environment, which wins over the file.

    Raises:
        click.ClickException: a setting is wrong; its message says which.
    """
    try:
        return Settings.from_env(os.environ, config=config, flags=flags)
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from error
