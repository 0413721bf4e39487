"""The admin log: commands that change something are in the audit log, as requests are."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dualreg.auth.audit import Audit
from dualreg.cli.options import prepared_registry
from dualreg.registry import Registry
from dualreg.settings import Settings

#: Writes what a command changed, and which user of this machine ran it; facts are given by name.
Record = Callable[..., None]


def open_audit(settings: Settings) -> Audit:
    """Return the audit log; where it goes to the console, a command's output stays what it is.

    Raises:
        click.ClickException: it cannot be written.
    """
    try:
        return Audit(settings.audit_target, console=sys.stderr)
    except OSError as error:
        raise click.ClickException(f"the audit log cannot be written: {error}") from error


@contextmanager
def audited_registry(
    data: Path | None, config: Path | None, *, alone: bool = False
) -> Iterator[tuple[Registry, Settings, Record]]:
    """Open the configured registry for a block that changes it, and records what it changed.

    Args:
        alone: Without the legacy source.

    Raises:
        click.ClickException: a setting is wrong, or the catalog or the audit log cannot be opened.
    """
    with prepared_registry(data, config, alone=alone) as (registry, settings):
        audit = open_audit(settings)

        def record(command: str, **facts: object) -> None:
            audit.write(registry.now(), "admin", command=command, uid=os.getuid(), **facts)

        try:
            yield registry, settings, record
        finally:
            audit.close()
