"""``dualreg db``: the catalog's schema."""

from pathlib import Path

import click

from dualreg.assembly import open_catalog
from dualreg.catalog.upgrade import upgrade as upgrade_catalog
from dualreg.cli.options import load_settings, settings_options
from dualreg.errors import CatalogUnreachable


@click.group()
def db() -> None:
    """Look after the catalog's database."""


@db.command()
@settings_options
def upgrade(data: Path | None, config: Path | None) -> None:
    """Bring the schema up to date; safe to repeat, and while an older version still serves."""
    catalog = open_catalog(load_settings(config, data=data))
    try:
        before, after = upgrade_catalog(catalog)
    except CatalogUnreachable as error:
        raise click.ClickException(str(error)) from error
    finally:
        catalog.close()
    click.echo(
        f"The catalog is up to date ({after})." if before == after else f"Upgraded {before} to {after}."
    )
