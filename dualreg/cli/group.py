"""``dualreg group``: accounts that permission lines speak of together."""

import json
from pathlib import Path

import click

from dualreg.cli.authorities import admin_session
from dualreg.cli.options import settings_options
from dualreg.cli.output import table


@click.group()
def group() -> None:
    """Look after groups; permission lines call them @NAME."""


@group.command()
@click.argument("name")
@click.argument("account")
@settings_options
def add(name: str, account: str, data: Path | None, config: Path | None) -> None:
    """Put ACCOUNT into the group NAME, which needs no making."""
    with admin_session(data, config) as own:
        own.accounts.join(name, account)
        own.record("group add", group=name, who=account)
    click.echo(f"{account} is in @{name}.")


@group.command()
@click.argument("name")
@click.argument("account")
@settings_options
def remove(name: str, account: str, data: Path | None, config: Path | None) -> None:
    """Take ACCOUNT out of the group NAME."""
    with admin_session(data, config) as own:
        own.accounts.leave(name, account)
        own.record("group remove", group=name, who=account)
    click.echo(f"{account} is no longer in @{name}.")


@group.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_groups(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List groups and who is in them."""
    with admin_session(data, config) as own:
        found = own.accounts.memberships()
    if as_json:
        click.echo(json.dumps([{"group": name, "account": account} for name, account in found], indent=2))
        return
    table(("GROUP", "ACCOUNT"), [(f"@{name}", account) for name, account in found])
    if not found:
        click.echo("No groups. Make one:  dualreg group add NAME ACCOUNT")
