"""``dualreg account`` and ``dualreg group``: who can log in, and which accounts rules name together."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from dualreg.auth.accounts import AccountState
from dualreg.auth.passwords import ADVISED
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute, records, table
from dualreg.messages import counted
from dualreg.operations.accounts import Login


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
@json_option
@settings_options
def add_account(
    name: str, data: Path | None, config: Path | None, *, password_stdin: bool, robot: bool, as_json: bool
) -> None:
    """Add the account NAME."""
    if robot and password_stdin:
        raise click.UsageError("--robot and --password-stdin cannot be combined")
    password = None if robot else _read_password(from_stdin=password_stdin)
    with administration(data, config, changes=True, create=True) as admin:
        admin.accounts.add(name, password)
    _warn_of_short(password)
    if as_json:
        echo_json({"account": name, "robot": robot})
        return
    echo(f"Added {'robot' if robot else 'account'} {name}. It has no permissions yet. Next:")
    echo(f"  dualreg access grant {name} '{name}/*' pull,push")
    if robot:
        echo(f"  dualreg key add {name}")


@account.command("list")
@json_option
@settings_options
def list_accounts(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the accounts, and which of them may not log in now."""
    with administration(data, config) as admin:
        accounts, memberships = admin.accounts.list(), admin.members.list()
    if as_json:
        records(accounts)
        return
    groups = {
        row.name: ",".join(each.group for each in memberships if each.account == row.name) for row in accounts
    }
    rows = [
        (
            row.name,
            "robot" if row.robot else "person",
            f"{row.created_at:%Y-%m-%d}",
            groups[row.name] or "-",
            _state(row),
        )
        for row in accounts
    ]
    table(("ACCOUNT", "TYPE", "CREATED", "GROUPS", "STATE"), rows)
    echo(
        f"{counted(len(accounts), 'account')}."
        if accounts
        else "No accounts. Add one:  dualreg account add NAME"
    )
    if any(row.locked or row.locked_networks for row in accounts):
        echo("Too many logins have failed for those that are locked. To unlock one:")
        echo("  dualreg account unlock NAME")


def _state(account: AccountState) -> str:
    """Return whether the account may log in, in a word or two."""
    if account.disabled_at:
        return f"disabled since {account.disabled_at:%Y-%m-%d}"
    if account.locked:
        return "locked"
    if account.login_ends_at:
        return f"logged in until {account.login_ends_at:%Y-%m-%d}"
    return (
        f"locked from {counted(account.locked_networks, 'address', 'addresses')}"
        if account.locked_networks
        else "-"
    )


@account.command("disable")
@click.argument("name")
@json_option
@settings_options
def disable_account(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Refuse the password, API keys and tokens of the account NAME.

    Nothing is removed: account enable makes all of them valid again.
    """
    with administration(data, config, changes=True) as admin:
        changed = admin.accounts.disable(name).changed
    if as_json:
        echo_json({"account": name, "disabled": True, "changed": changed})
        return
    echo(f"Disabled {name}." if changed else f"{name} is disabled already.")
    echo("Its password, API keys and refresh tokens are refused at once, tokens that it has within a minute.")
    echo(f"To enable it again:  dualreg account enable {name}")


@account.command("enable")
@click.argument("name")
@json_option
@settings_options
def enable_account(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Accept the password, API keys and refresh tokens of the account NAME again."""
    with administration(data, config, changes=True) as admin:
        changed = admin.accounts.enable(name).changed
    if as_json:
        echo_json({"account": name, "disabled": False, "changed": changed})
        return
    echo(f"Enabled {name}." if changed else f"{name} is not disabled.")


@account.command("remove")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@json_option
@settings_options
def remove_account(
    name: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    """Remove the account NAME with its keys, memberships and permission rules."""
    with administration(data, config, changes=True) as admin:
        rules = admin.accounts.remove(name, dry_run=dry_run).rules
    if as_json:
        echo_json({"account": name, "rules": rules, "dry_run": dry_run})
        return
    verb = "Would remove" if dry_run else "Removed"
    echo(f"{verb} {name} and {counted(rules, 'permission rule')}.")
    if not dry_run:
        echo("Its API keys and refresh tokens are gone, tokens that it has end within a minute.")


@account.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@json_option
@settings_options
def password(
    name: str, data: Path | None, config: Path | None, *, password_stdin: bool, as_json: bool
) -> None:
    """Change the password of the account NAME.

    Clients that logged in with the old password have to log in again.
    """
    new = _read_password(from_stdin=password_stdin)
    with administration(data, config, changes=True) as admin:
        admin.accounts.set_password(name, new)
    _warn_of_short(new)
    if as_json:
        echo_json({"account": name})
        return
    echo(f"Changed the password of {name}.")


@account.command("unlock")
@click.argument("name", required=False)
@click.option("--address", help="Forget those of all accounts together that came from ADDRESS instead.")
@json_option
@settings_options
def unlock_account(
    name: str | None, address: str | None, data: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Forget the failed logins that keep the account NAME from logging in.

    With --address, all accounts can log in from there again, except those with too many failures of their
    own.
    """
    if (name is None) == (address is None):
        raise click.UsageError("give either NAME or --address")
    with administration(data, config, changes=True) as admin:
        failures = admin.accounts.unlock(name, address).failures
    if as_json:
        echo_json({"account": name, "address": address, "failures": failures})
        return
    echo(f"Unlocked {name or address}: forgot {counted(failures, 'failed login')} of the last 15 minutes.")


@account.command("logins")
@click.argument("name")
@json_option
@settings_options
def list_logins(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the API keys, refresh tokens, and sessions of browsers of the account NAME."""
    with administration(data, config) as admin:
        logins = admin.accounts.logins(name)
    if as_json:
        records(logins)
        return
    table(("KIND", "ID", "CREATED", "EXPIRES", "USED", "SCOPE", "NOTE"), [*map(_login_cells, logins)])
    echo(f"{counted(len(logins), 'login')}.")


def _login_cells(row: Login) -> tuple[str, ...]:
    expires = minute(row.expires_at) if row.expires_at else "never"
    used = minute(row.used_at) if row.used_at else "-"
    return row.kind, row.id, minute(row.created_at), expires, used, row.limits or "-", row.note or "-"


@account.command("logout")
@click.argument("name")
@click.option("--keys", is_flag=True, help="Revoke the API keys, too.")
@click.option("--dry-run", is_flag=True, help="Only print what would be ended.")
@json_option
@settings_options
def end_logins(
    name: str, data: Path | None, config: Path | None, *, keys: bool, dry_run: bool, as_json: bool
) -> None:
    """End all logins of the account NAME: refresh tokens, tokens, and sessions of browsers.

    The password stays as it is. To refuse it, too, disable the account.
    """
    with administration(data, config, changes=True) as admin:
        found = admin.accounts.log_out(name, keys=keys, dry_run=dry_run)
    if as_json:
        echo_json({**asdict(found), "dry_run": dry_run})
        return
    what = f"{counted(found.refresh_tokens, 'refresh token')} and {counted(found.sessions, 'session')}"
    what = f"{counted(found.keys, 'API key')}, {what}" if keys else what
    echo(f"{'Would end' if dry_run else 'Ended'} {what} of {name}.")
    if not dry_run:
        echo(
            "Tokens that it has end within a minute."
            if found.tokens
            else "Tokens that it has stay until they expire."
        )


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
@json_option
@settings_options
def add_member(name: str, account: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Add ACCOUNT to the group NAME, which is created if necessary."""
    with administration(data, config, changes=True) as admin:
        admin.members.add(name, account)
    if as_json:
        echo_json({"group": name, "account": account})
        return
    echo(f"Added {account} to @{name}.")


@group.command("remove")
@click.argument("name")
@click.argument("account")
@json_option
@settings_options
def remove_member(name: str, account: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Remove ACCOUNT from the group NAME."""
    with administration(data, config, changes=True) as admin:
        admin.members.remove(name, account)
    if as_json:
        echo_json({"group": name, "account": account})
        return
    echo(f"Removed {account} from @{name}.")


@group.command("list")
@json_option
@settings_options
def list_groups(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the groups and their members."""
    with administration(data, config) as admin:
        memberships = admin.members.list()
    if as_json:
        records(memberships)
        return
    table(("GROUP", "ACCOUNT"), [(f"@{each.group}", each.account) for each in memberships])
    if not memberships:
        echo("No groups. Add one:  dualreg group add NAME ACCOUNT")
