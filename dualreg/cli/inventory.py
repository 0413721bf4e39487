"""``dualreg inventory``: the blobs that a registry has, so that an export can leave them out."""

from pathlib import Path

import click

from dualreg.cli.admin import prepared_registry
from dualreg.cli.failures import MigrateCommand
from dualreg.cli.options import settings_options
from dualreg.migrate.inventory import registry_lines


@click.command(cls=MigrateCommand)
@click.option("-o", "--output", type=click.Path(), default="-", metavar="FILE",
              help="Write to FILE instead of standard output.")  # fmt: skip
@settings_options
def inventory(data: Path | None, config: Path | None, output: str) -> None:
    """List the blobs of the registry, with their sizes in bytes.

    Another registry exports with --have what is not in the list.
    """
    with (
        prepared_registry(data, config, alone=True) as (registry, _),
        click.open_file(output, "w", encoding="ascii") as file,
    ):
        file.writelines(registry_lines((each.digest, each.size) for each in registry.blobs.all()))
