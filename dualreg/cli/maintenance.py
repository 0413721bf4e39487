"""``dualreg db`` and ``dualreg gc``: the schema of the catalog, and garbage collected while serving."""

from contextlib import closing
from pathlib import Path

import click

from dualreg.assembly import open_catalog
from dualreg.catalog.upgrade import upgrade as upgrade_catalog
from dualreg.cli.admin import audited_registry
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import counted, echo, echo_json
from dualreg.errors import CatalogUnreachable
from dualreg.maintenance import uploads


@click.group()
def db() -> None:
    """Manage the catalog database."""


@db.command()
@settings_options
def upgrade(data: Path | None, config: Path | None) -> None:
    """Upgrade the schema to this version.

    Safe to repeat, and while an older version is still serving.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    try:
        with closing(open_catalog(settings)) as catalog:
            before, after = upgrade_catalog(catalog)
    except (CatalogUnreachable, OSError) as error:
        raise click.ClickException(str(error)) from error
    echo(f"The catalog is up to date ({after})." if before == after else f"Upgraded {before} to {after}.")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@json_option
@settings_options
def gc(data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Delete idle uploads.

    An upload is idle once nothing was sent for the time that the setting upload_ttl gives. Safe while the
    registry is serving: uploads that resume in the meantime are kept.
    """
    with audited_registry(data, config) as (registry, settings, record):
        before = registry.now() - settings.upload_ttl
        planned = uploads.plan(registry.uploads, before)
        found = len(planned.sessions) + len(planned.strays)
        discarded = 0 if dry_run else uploads.apply(registry.uploads, before, planned)
        if discarded:
            record("gc", discarded=discarded)
    if as_json:
        echo_json({"idle_uploads": found, "discarded": discarded}, indent=None)
    elif dry_run:
        echo(f"Would delete {counted(found, 'idle upload')}. Run without --dry-run to delete them.")
    else:
        echo(f"Deleted {counted(discarded, 'idle upload')}.")
