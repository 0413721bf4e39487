"""``dualreg repository``: whole repositories."""

from pathlib import Path

import click

from dualreg.cli.options import prepared_registry, settings_options
from dualreg.errors import RegistryError
from dualreg.image.names import RepositoryName


@click.group()
def repository() -> None:
    """Look after repositories."""


@repository.command()
@click.argument("name")
@settings_options
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def delete(name: str, data: Path | None, config: Path | None, *, dry_run: bool) -> None:
    """Forget the repository NAME with its tags, manifests and images; works while the registry serves."""
    try:
        parsed = RepositoryName.parse(name)
        with prepared_registry(data, config) as (registry, _):
            tags = registry.tags.list(parsed).names
            if not dry_run:
                registry.repositories.delete(parsed)
    except RegistryError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{'Would delete' if dry_run else 'Deleted'} {name} with {len(tags)} tags.")
