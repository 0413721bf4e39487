"""The ``dualreg`` command: thin verbs over the same services that serve HTTP.

A command's module is imported when the command is used, so that ``dualreg --version`` and ``dualreg --help``
load neither the registry nor the web server.
"""

import logging
from pathlib import Path

import click

from dualreg import __version__
from dualreg.cli.command import Chosen, ServerGroup
from dualreg.messages import LogFormatter

#: Each command: where it is defined, as MODULE:NAME below ``dualreg.cli``, and its line in the help.
COMMANDS = {
    "serve": ("serve:serve", "Serve the registry until interrupted."),
    "follow": ("follow:follow", "Serve a copy of another registry's directory, read-only."),
    "health": ("health:health", "Check whether the server can serve."),
    "status": ("status:status", "Show whether the registry works, and how much room it has."),
    "config": ("config:config", "Show the configuration."),
    "client-config": ("client_config:client_config", "Print the configuration of clients for this server."),
    "db": ("db.commands:db", "Manage the catalog database."),
    "account": ("accounts:account", "Manage accounts."),
    "group": ("accounts:group", "Manage groups."),
    "key": ("secrets:key", "Manage API keys."),
    "token": ("secrets:token", "Manage tokens."),
    "login": ("login:login", "Log in to the registry at URL by the issuer of its people."),
    "access": ("access:access", "Manage permission rules."),
    "immutable": ("immutable:immutable", "Manage rules of immutable tags."),
    "retention": ("retention:retention", "Manage the rules that say which tags stay."),
    "repository": ("repository:repository", "Manage repositories."),
    "quota": ("quota:quota", "Manage quotas."),
    "usage": ("usage:usage", "Show how many bytes repositories have."),
    "growth": ("growth:growth", "Show how much was pulled, pushed and stored by day."),
    "image": ("image:image", "Show an image."),
    "tag": ("tag:tag", "Manage tags."),
    "images": ("images:images", "Check which clients can read images."),
    "derive": ("derive:derive", "Make editions of tagged images before clients ask for them."),
    "audit": ("audit:audit", "Search the audit log."),
    "clients": ("clients:clients", "List recent V1 clients."),
    "v1": ("v1:v1", "Manage how much of the V1 API is served."),
    "upstreams": ("upstreams:upstreams", "Show what was fetched from other registries."),
    "store": ("store:store", "Manage the store."),
    "fsck": ("fsck:fsck", "Check the store and the catalog against each other."),
    "backup": ("backup:backup", "Back up the registry to DIRECTORY while it is serving."),
    "restore": ("backup:restore", "Restore the registry from the backup in DIRECTORY."),
    "webhook": (
        "webhook:webhook",
        "Manage webhooks.",
    ),
    "tasks": (
        "tasks:tasks",
        "List the tasks of the service: when each was run last and is run next, and what came of it.",
    ),
    "gc": ("garbage:gc", "Delete what nothing uses."),
    "why": ("why:why", "Show what keeps a blob or manifest."),
    "readonly": ("marks:readonly", "Make the registry read-only."),
    "migrate": ("migrate.commands:migrate", "Import the content of another registry."),
    "mirror": ("mirror.commands:mirror", "Copy images from and to other registries, by rules."),
    "inventory": ("inventory:inventory", "List the blobs of the registry, with their sizes in bytes."),
    "export": ("export:export", "Export tags to another registry or to files."),
}


@click.group(
    cls=ServerGroup,
    lazy=COMMANDS,
    package=__name__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--server",
    metavar="URL",
    envvar="DUALREG_SERVER",
    help="Run the command on this server, by its API.  [env: DUALREG_SERVER]",
)
@click.option(
    "--server-key",
    type=click.Path(path_type=Path),
    envvar="DUALREG_SERVER_KEY_FILE",
    metavar="FILE",
    help="Read ACCOUNT:KEY for the server from FILE.  [env: DUALREG_SERVER_KEY_FILE]",
)
@click.option(
    "--server-ca",
    type=click.Path(path_type=Path),
    envvar="DUALREG_SERVER_CA",
    metavar="FILE",
    help="Trust the authorities in the PEM file FILE.  [env: DUALREG_SERVER_CA]",
)
@click.version_option(__version__, prog_name="dualreg")
@click.pass_context
def main(context: click.Context, server: str | None, server_key: Path | None, server_ca: Path | None) -> None:
    """Serve one container registry to Docker V1, Docker V2 and OCI clients."""
    context.obj = Chosen(server, server_key, server_ca)
    if logging.lastResort:  # which prints warnings, as no log is configured
        logging.lastResort.setFormatter(LogFormatter())
