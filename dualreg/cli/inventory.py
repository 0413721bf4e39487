"""``dualreg inventory``: the blobs that a registry has, so that an export can leave them out."""

from itertools import chain
from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.failures import MigrateCommand
from dualreg.cli.options import settings_options
from dualreg.cli.paging import listed
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
        administration(data, config, alone=True) as admin,
        click.open_file(output, "w", encoding="ascii") as file,
    ):
        pages = listed(lambda n, end: admin.service.inventory(n=n, after=end))
        blobs = chain.from_iterable(pages)
        file.writelines(registry_lines((each.digest, each.size) for each in blobs))
