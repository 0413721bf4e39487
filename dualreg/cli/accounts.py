"""``dualreg account`` and ``dualreg group``: who can log in, and which accounts rules name together."""

import sys
from pathlib import Path

import click

from dualreg.auth.passwords import ADVISED
from dualreg.cli.admin import admin_session
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import counted, echo, echo_json, records, table


@click.group()
def account() -> None:
    """Manage accounts.

    All commands work while the registry is serving.
    """


@account.command("add")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option(
    "--robot", is_flag=True, help="Create a robot, which has no password and logs in with API keys."
)
@settings_options
def add_account(
    name: str, data: Path | None, config: Path | None, *, password_stdin: bool, robot: bool
) -> None:
    """Add the account NAME."""
    if robot and password_stdin:
        raise click.UsageError("--robot and --password-stdin cannot be combined")
    password = None if robot else _read_password(from_stdin=password_stdin)
    with admin_session(data, config, create=True) as session:
        session.accounts.add(name, password)
        session.record("account add", who=name)
    echo(f"Added {'robot' if robot else 'account'} {name}. It has no permissions yet. Next:")
    echo(f"  dualreg access grant {name} '{name}/*' pull,push")
    if robot:
        echo(f"  dualreg key add {name}")
    _warn_of_short(password)


@account.command("list")
@json_option
@settings_options
def list_accounts(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the accounts."""
    with admin_session(data, config, changes=False) as session:
        accounts, memberships = session.accounts.list(), session.accounts.memberships()
    if as_json:
        records(accounts, "password_hash")
        return
    groups = {
        row.name: ",".join(group for group, name in memberships if name == row.name) for row in accounts
    }
    rows = [
        (row.name, "robot" if row.robot else "person", f"{row.created_at:%Y-%m-%d}", groups[row.name] or "-")
        for row in accounts
    ]
    table(("ACCOUNT", "TYPE", "CREATED", "GROUPS"), rows)
    echo(
        f"{counted(len(accounts), 'account')}."
        if accounts
        else "No accounts. Add one:  dualreg account add NAME"
    )


@account.command("remove")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@settings_options
def remove_account(name: str, data: Path | None, config: Path | None, *, dry_run: bool) -> None:
    """Remove the account NAME with its keys, memberships and permission rules."""
    with admin_session(data, config) as session:
        rules = [line for line in session.accounts.rules() if line.who == name]
        if dry_run:
            session.accounts.require(name)
        else:
            session.accounts.remove(name)
            session.record("account remove", who=name)
    verb = "Would remove" if dry_run else "Removed"
    echo(f"{verb} {name} and {counted(len(rules), 'permission rule')}.")
    if not dry_run:
        echo("Its tokens stay valid for a few minutes, its V1 sessions for up to 6 hours.")
        echo("To invalidate all tokens now:  dualreg token rotate --grace 0s")


@account.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@settings_options
def password(name: str, data: Path | None, config: Path | None, *, password_stdin: bool) -> None:
    """Change the password of the account NAME.

    Clients that logged in with the old password have to log in again.
    """
    new = _read_password(from_stdin=password_stdin)
    with admin_session(data, config) as session:
        session.accounts.set_password(name, new)
        session.record("account password", who=name)
    echo(f"Changed the password of {name}.")
    _warn_of_short(new)


@account.command("unlock")
@click.argument("name", required=False)
@click.option("--address", help="Forget those of all accounts together that came from ADDRESS instead.")
@settings_options
def unlock_account(name: str | None, address: str | None, data: Path | None, config: Path | None) -> None:
    """Forget the failed logins that keep the account NAME from logging in.

    With --address, all accounts can log in from there again, except those with too many failures of their
    own.
    """
    if (name is None) == (address is None):
        raise click.UsageError("give either NAME or --address")
    with admin_session(data, config) as session:
        if name is not None:
            session.require(name)
            failures = session.accounts.unlock(name)
        else:
            failures = session.accounts.unlock_address(address or "")
        session.record("account unlock", **({"who": name} if name else {"address": address}))
    echo(f"Unlocked {name or address}: forgot {counted(failures, 'failed login')} of the last 15 minutes.")


def _read_password(*, from_stdin: bool) -> str:
    """Return a new password: the first line of standard input, or what is typed twice."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _warn_of_short(password: str | None) -> None:
    """Warn of a password that can be guessed; None: there is none."""
    if password is not None and len(password) < ADVISED:
        text = f"warning: a password of {len(password)} characters is easy to guess; use {ADVISED} or more"
        echo(text, err=True)


@click.group()
def group() -> None:
    """Manage groups.

    Permission rules refer to the group NAME as @NAME.
    """


@group.command("add")
@click.argument("name")
@click.argument("account")
@settings_options
def add_member(name: str, account: str, data: Path | None, config: Path | None) -> None:
    """Add ACCOUNT to the group NAME, which is created if necessary."""
    with admin_session(data, config) as session:
        session.accounts.join(name, account)
        session.record("group add", group=name, who=account)
    echo(f"Added {account} to @{name}.")


@group.command("remove")
@click.argument("name")
@click.argument("account")
@settings_options
def remove_member(name: str, account: str, data: Path | None, config: Path | None) -> None:
    """Remove ACCOUNT from the group NAME."""
    with admin_session(data, config) as session:
        session.accounts.leave(name, account)
        session.record("group remove", group=name, who=account)
    echo(f"Removed {account} from @{name}.")


@group.command("list")
@json_option
@settings_options
def list_groups(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the groups and their members."""
    with admin_session(data, config, changes=False) as session:
        memberships = session.accounts.memberships()
    if as_json:
        rows = [{"group": name, "account": account} for name, account in memberships]
        echo_json(rows)
        return
    table(("GROUP", "ACCOUNT"), [(f"@{name}", account) for name, account in memberships])
    if not memberships:
        echo("No groups. Add one:  dualreg group add NAME ACCOUNT")
