"""The operations that a command calls: on the registry of this machine, or on the server of ``--server``."""

import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import click

from dualreg.assembly import accounts_of, authority_of, catalog_of, signing_policies, writes_of
from dualreg.cli.admin import Record, audited, audited_registry, existing_settings, prepared_registry
from dualreg.cli.command import Chosen
from dualreg.cli.options import environment
from dualreg.cli.output import echo
from dualreg.cli.readonly import require_changeable
from dualreg.errors import RegistryError
from dualreg.operations.control import TaskControl
from dualreg.operations.remote import Server
from dualreg.operations.session import Session
from dualreg.operations.table import Administration
from dualreg.registry import Registry
from dualreg.settings import Settings

#: Where the key is, if no file is named: ``ACCOUNT:KEY``.
KEY_VARIABLE = "DUALREG_SERVER_KEY"


def chosen_server() -> Chosen:
    """Return the server of the global options."""
    context = click.get_current_context(silent=True)
    chosen = context.find_root().obj if context else None
    return chosen if isinstance(chosen, Chosen) else Chosen()


@contextmanager
def administration(
    data: Path | None,
    config: Path | None,
    *,
    changes: bool = False,
    followers: bool = False,
    unopened: bool = False,
    tasks: Callable[[Registry, Settings], TaskControl] | None = None,
    **opening: bool,
) -> Iterator[Administration]:
    """Open the operations for the block: on this machine, or on the server of the global options.

    Args:
        changes: Whether the block changes something.
        followers: Whether it may change that on a follower, too.
        unopened: Whether it needs no more than settings, and works without the catalog.
        tasks: Makes what lists the tasks of this machine, if it needs that.
        opening: As ``prepared_registry``.

    Raises:
        click.ClickException: they cannot be opened, or one that the block calls is refused.
    """
    try:
        with ExitStack() as stack:
            chosen = chosen_server()
            if chosen.url:
                _refuse_paths(data, config)
                echo(f"Registry: {chosen.url} (--server)", err=True)
                yield _server(chosen).administration()
                return
            if unopened:
                opened = _opened(stack, existing_settings(data, config), changes=changes)
            elif changes:
                opened = stack.enter_context(audited_registry(data, config, changes=not followers, **opening))
            else:
                opened = *stack.enter_context(prepared_registry(data, config, **opening)), _no_record
            yield Administration.over(_session(*opened, tasks))
    except (ValueError, RegistryError) as error:
        raise click.ClickException(str(error)) from error


def _no_record(command: str, **facts: object) -> None:
    """Record nothing, as nothing is changed."""
    raise AssertionError(command, facts)


def _opened(
    stack: ExitStack, settings: Settings, *, changes: bool
) -> tuple[Registry | None, Settings, Record]:
    """Return what a session is made of, without a registry."""
    return None, settings, stack.enter_context(audited(settings)) if changes else _no_record


def _session(
    registry: Registry | None,
    settings: Settings,
    record: Record,
    tasks: Callable[[Registry, Settings], TaskControl] | None,
) -> Session:
    """Return what operations on this machine work with; those of a session without a registry need none."""
    opened = cast("Registry", registry)
    return Session(
        opened,
        settings,
        record,
        lambda: accounts_of(opened),
        lambda: authority_of(opened, settings),
        lambda: writes_of(settings, catalog_of(opened) if registry else None),
        lambda repository: signing_policies(settings).trust(repository),
        tasks(opened, settings) if tasks else None,
        require_changeable=lambda: require_changeable(settings),
    )


def _refuse_paths(data: Path | None, config: Path | None) -> None:
    """Refuse options that are for this machine.

    Raises:
        click.UsageError: one is given.
    """
    if data or config:
        raise click.UsageError("--data and --config are for this machine; leave them out with --server")


def _server(chosen: Chosen) -> Server:
    """Return the server, with the account and the key to use there.

    Raises:
        click.ClickException: there is no key, or its file cannot be read, or others can read it.
    """
    text = environment().get(KEY_VARIABLE, "")
    if chosen.key_file:
        text = _read_private(chosen.key_file)
    account, colon, key = text.strip().partition(":")
    if not (account and colon and key):
        what = f"{chosen.key_file}" if chosen.key_file else KEY_VARIABLE
        raise click.ClickException(
            f"{what}: expected ACCOUNT:KEY. Create a key:  dualreg key add ACCOUNT\n"
            f"Give it in the file of --server-key, or in the variable {KEY_VARIABLE}."
        )
    return Server(str(chosen.url), account, key, str(chosen.ca) if chosen.ca else None)


def _read_private(path: Path) -> str:
    """Return the text of a file that only its owner can read.

    Raises:
        click.ClickException: it cannot be read, or others can read it.
    """
    try:
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            raise click.ClickException(f"{path}: others can read it; run `chmod 600 {path}`")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: {error}") from error
