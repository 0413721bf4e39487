"""The registry that a command works on: opened by its settings, changed with a record in the audit log."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from dualreg.acting import Api, act_always_as
from dualreg.assembly import open_registry, prepare
from dualreg.auth.audit import Audit
from dualreg.catalog.clock import utc_now
from dualreg.catalog.database import is_absent
from dualreg.cli.options import announce_registry, load_settings
from dualreg.errors import AuditUnavailable, CatalogUnreachable
from dualreg.registry import Registry
from dualreg.settings import Settings

#: Groups of commands that change tags in another way than by an operator's wish.
_APIS = {"migrate": Api.IMPORT, "mirror": Api.IMPORT, "follow": Api.FOLLOWER}
#: Writes to the audit log which command changed what, and which Unix user ran it; facts are given by name.
Record = Callable[..., None]


def require_registry(settings: Settings) -> None:
    """Check that there is a registry, without opening it.

    Raises:
        click.ClickException: there is none.
    """
    if is_absent(settings.database_url):
        raise click.ClickException(
            f"there is no registry in {settings.data.absolute()}; `dualreg serve` creates one\n"
            "To use another directory, give --data, or set data in a configuration file (see --config)."
        )


def existing_settings(data: Path | None, config: Path | None) -> Settings:
    """Return the settings of a registry that exists, after printing which one it is.

    Raises:
        click.ClickException: a setting is invalid, or there is no registry.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    require_registry(settings)
    return settings


def prepare_or_fail(settings: Settings, *, create: bool = True, rebuild: bool = False) -> None:
    """Make the catalog ready.

    Args:
        create: Create an SQLite catalog that does not exist; only a command that adds content does.
        rebuild: As ``assembly.prepare``.

    Raises:
        click.ClickException: it does not exist, cannot be opened or is lost, its folder cannot be made, or
            its URL is invalid.
    """
    try:
        if not create:
            require_registry(settings)
        prepare(settings, rebuild=rebuild)
    except (CatalogUnreachable, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def act_as_command() -> None:
    """Have the history of tags name the command for what it changes."""
    context = click.get_current_context(silent=True)
    command = context.command_path.partition(" ")[2] if context else ""
    act_always_as(command, _APIS.get(command.partition(" ")[0], Api.COMMAND))


@contextmanager
def prepared_registry(
    data: Path | None,
    config: Path | None,
    *,
    alone: bool = False,
    create: bool = False,
    rebuild: bool = False,
    announce: bool = True,
) -> Iterator[tuple[Registry, Settings]]:
    """Open the configured registry, with its settings, for the block.

    Args:
        alone: Without the legacy source.
        create, rebuild: As ``prepare_or_fail``.
        announce: Print which registry it is.

    Raises:
        click.ClickException: a setting is invalid, or the catalog does not exist or cannot be opened.
    """
    settings = load_settings(config, data=data)
    if announce:
        announce_registry(settings)
    act_as_command()
    prepare_or_fail(settings, create=create, rebuild=rebuild)
    registry = open_registry(settings, alone=alone)
    try:
        yield registry, settings
    finally:
        registry.close()


@contextmanager
def existing_registry(settings: Settings) -> Iterator[Registry | None]:
    """Open the registry of *settings*, without the legacy source, for the block; None if it does not exist.

    Raises:
        click.ClickException: the catalog cannot be opened.
    """
    announce_registry(settings)
    if is_absent(settings.database_url):
        yield None
        return
    prepare_or_fail(settings, rebuild=True)
    registry = open_registry(settings, alone=True)
    try:
        yield registry
    finally:
        registry.close()


def open_audit(settings: Settings) -> Audit:
    """Return the audit log; if it goes to the console, it goes to standard error.

    Raises:
        click.ClickException: it cannot be written.
    """
    audit = Audit(settings.audit_target, console=sys.stderr)
    try:
        audit.ready()
    except AuditUnavailable as error:
        raise click.ClickException(str(error)) from error
    return audit


@contextmanager
def audited(settings: Settings, *, changes: bool = True) -> Iterator[Record]:
    """Open the audit log for a block that changes something, and records its changes.

    Args:
        changes: Whether it changes content, accounts or permissions, which a follower does not.

    Raises:
        click.ClickException: it cannot be written, or the registry is that of a follower.
    """
    if settings.follow and changes:
        raise click.ClickException(
            f"{settings.data.absolute()} follows {settings.follow}; make changes there"
        )
    with closing(open_audit(settings)) as audit:

        def record(command: str, **facts: object) -> None:
            audit.write(utc_now(), "admin", command=command, uid=os.getuid(), **facts)

        yield record


@contextmanager
def audited_registry(
    data: Path | None, config: Path | None, *, changes: bool = True, **opening: bool
) -> Iterator[tuple[Registry, Settings, Record]]:
    """Open the configured registry for a block that changes it, and records its changes.

    Args:
        changes: As ``audited``.
        opening: As ``prepared_registry``.

    Raises:
        click.ClickException: a setting is invalid, or the catalog or the audit log cannot be opened.
    """
    with (
        prepared_registry(data, config, **opening) as (registry, settings),
        audited(settings, changes=changes) as record,
    ):
        yield registry, settings, record
