"""The group of commands, those that only look, and ``upgrade``; others have their own files."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from dualreg.assembly import build_registry, open_catalog
from dualreg.catalog import overview
from dualreg.catalog.integrity import find_damage
from dualreg.catalog.upgrade import Revision, revision
from dualreg.catalog.upgrade import upgrade as upgrade_catalog
from dualreg.cli.admin import existing_settings
from dualreg.cli.db.copy import copy
from dualreg.cli.db.rebuild import rebuild
from dualreg.cli.failures import MigrateCommand
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_json, table
from dualreg.cli.progress import progress
from dualreg.errors import CatalogUnreachable
from dualreg.maintenance.catalog_check import CatalogCheck, Finding, Flaw
from dualreg.messages import counted, mask
from dualreg.settings import Settings
from dualreg.storage import open_store

_MIB = 1 << 20
#: How the kinds of databases are written.
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@click.command(cls=MigrateCommand)
@json_option
@settings_options
def current(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show the database, its revision and its size.

    Exits with 1 if this version cannot use the database as it is, and with 2 on failure.
    """
    settings = existing_settings(data, config)
    with closing(open_catalog(settings)) as catalog:
        found, seen = revision(catalog), overview.look(catalog)
    if as_json:
        what = {"database": mask(settings.database_url), "kind": seen.kind}
        at = {"revision": found.found, "newest": found.newest, "current": found.is_current}
        echo_json({**what, **at, "bytes": seen.size, "rows": seen.rows})
    else:
        echo(f"Database: {_NAMES[seen.kind]}, {settings.database_url}")
        echo(f"Revision: {_describe(found)}")
        echo(f"Size:     {seen.size / _MIB:,.1f} MiB")
        table(["TABLE", "ROWS"], [[name, f"{count:,}"] for name, count in seen.rows.items()])
    raise SystemExit(0 if found.is_usable else 1)


def _describe(found: Revision) -> str:
    if found.is_current:
        return f"{found.found}, the newest of this version"
    return f"{found.found or 'none'}; {found.advice}"


@click.command(cls=MigrateCommand)
@json_option
@settings_options
def check(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Check the database and its schema.

    Changes nothing, and is safe while the registry is serving. An SQLite file is read through. To check the
    content of the catalog against the store, use fsck.

    With --json, each finding is one line. Exits with 1 if there are findings, and with 2 on failure.
    """
    settings, count = existing_settings(data, config), 0
    for count, finding in enumerate(_findings(settings), 1):  # noqa: B007 -- the last number is how many
        if as_json:
            echo_json(finding, indent=None)
        else:
            echo(f"{finding.kind}: {finding.where}: {finding.text}")
    if as_json:
        echo_json({"findings": count}, indent=None)
    else:
        echo(f"{counted(count, 'finding')}." if count else "The catalog is sound.", err=bool(count))
    raise SystemExit(1 if count else 0)


def _findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong; if the file is malformed, nothing else, as it cannot be read."""
    if damage := find_damage(settings.database_url, whole=True):
        yield Finding(Flaw.MALFORMED, "database", damage)
        return
    with closing(open_catalog(settings)) as catalog:
        linking = build_registry(catalog, open_store(*settings.store_urls), settings).linking
        yield from CatalogCheck(catalog, linking).run()


@click.command()
@settings_options
def upgrade(data: Path | None, config: Path | None) -> None:
    """Upgrade the catalog and the link files in the store to this version.

    Safe to repeat, and while an older version is still serving.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    try:
        with closing(open_catalog(settings)) as catalog:
            before, after = upgrade_catalog(catalog)
            linking = build_registry(catalog, open_store(*settings.store_urls), settings).linking
            if linking.is_due():
                with progress("repositories", linking.count()) as advance:
                    linking.complete(lambda _: advance(1, 0))
    except (CatalogUnreachable, OSError) as error:
        raise click.ClickException(str(error)) from error
    echo(f"The catalog is up to date ({after})." if before == after else f"Upgraded {before} to {after}.")


@click.group(commands=[current, check, upgrade, copy, rebuild])
def db() -> None:
    """Manage the catalog database."""
