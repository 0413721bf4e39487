"""``dualreg account``: who can log in."""

from pathlib import Path

import click

from dualreg.cli.authorities import admin_session, read_password
from dualreg.cli.options import settings_options
from dualreg.cli.output import records, table


@click.group()
def account() -> None:
    """Look after accounts. All of it works while the registry serves."""


@account.command()
@click.argument("name")
@settings_options
@click.option("--password-stdin", is_flag=True, help="Read the password from the standard input.")
@click.option("--robot", is_flag=True, help="Without a password: it logs in with API keys only.")
def add(name: str, data: Path | None, config: Path | None, *, password_stdin: bool, robot: bool) -> None:
    """Make the account NAME."""
    if robot and password_stdin:
        raise click.UsageError("a robot has no password")
    password = None if robot else read_password(from_stdin=password_stdin)
    with admin_session(data, config) as own:
        own.accounts.add(name, password)
        own.record("account add", who=name)
    click.echo(f"Added {'the robot' if robot else 'the account'} {name}, which may do nothing yet. Next:")
    click.echo(f"  dualreg access grant {name} '{name}/*' pull,push")
    if robot:
        click.echo(f"  dualreg key add {name}")


@account.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_accounts(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the accounts."""
    with admin_session(data, config) as own:
        found, memberships = own.accounts.list(), own.accounts.memberships()
    if as_json:
        records(found, "password_hash")
        return
    groups = {row.name: ",".join(group for group, name in memberships if name == row.name) for row in found}
    rows = [
        (row.name, "robot" if row.robot else "person", f"{row.created_at:%Y-%m-%d}", groups[row.name] or "-")
        for row in found
    ]
    table(("ACCOUNT", "SORT", "CREATED", "GROUPS"), rows)
    click.echo(f"{len(found)} accounts." if found else "No accounts. Make one:  dualreg account add NAME")


@account.command()
@click.argument("name")
@settings_options
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def remove(name: str, data: Path | None, config: Path | None, *, dry_run: bool) -> None:
    """Forget the account NAME, its keys, memberships and permission lines."""
    with admin_session(data, config) as own:
        lines = [line for line in own.accounts.rules() if line.who == name]
        if dry_run:
            own.accounts.require(name)
        else:
            own.accounts.remove(name)
            own.record("account remove", who=name)
    click.echo(f"{'Would remove' if dry_run else 'Removed'} {name} and {len(lines)} permission lines.")
    if not dry_run:
        click.echo("Tokens that it has are good for minutes, V1 sessions for up to 6 hours.")
        click.echo("To end all of them now:  dualreg token rotate --grace 0s")


@account.command()
@click.argument("name")
@settings_options
@click.option("--password-stdin", is_flag=True, help="Read the password from the standard input.")
def password(name: str, data: Path | None, config: Path | None, *, password_stdin: bool) -> None:
    """Change the password of the account NAME; what was logged in by the old one has to log in again."""
    new = read_password(from_stdin=password_stdin)
    with admin_session(data, config) as own:
        own.accounts.set_password(name, new)
        own.record("account password", who=name)
    click.echo(f"Changed the password of {name}.")
