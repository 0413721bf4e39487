"""The ``dualreg`` command: thin verbs over the same services that serve HTTP."""

import click

from dualreg import __version__
from dualreg.cli.access import access
from dualreg.cli.account import account
from dualreg.cli.clients import clients
from dualreg.cli.config import config
from dualreg.cli.db import db
from dualreg.cli.export import export
from dualreg.cli.gc import gc
from dualreg.cli.group import group
from dualreg.cli.key import key
from dualreg.cli.migrate.commands import migrate
from dualreg.cli.repository import repository
from dualreg.cli.serve import serve
from dualreg.cli.token import token


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dualreg")
def main() -> None:
    """One container registry for Docker V1, Docker V2 and OCI clients."""


main.add_command(serve)
main.add_command(db)
main.add_command(config)
main.add_command(gc)
main.add_command(repository)
main.add_command(clients)
main.add_command(account)
main.add_command(group)
main.add_command(key)
main.add_command(access)
main.add_command(token)
main.add_command(migrate)
main.add_command(export)
