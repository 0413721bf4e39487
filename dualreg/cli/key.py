"""``dualreg key``: API keys, which stand for an account in place of its password."""

from pathlib import Path

import click

from dualreg.auth.secrets import SecretKind
from dualreg.cli.authorities import admin_session, revoke_secret
from dualreg.cli.options import settings_options
from dualreg.cli.output import records, table
from dualreg.settings import parse_duration


@click.group()
def key() -> None:
    """Look after API keys."""


@key.command()
@click.argument("account")
@settings_options
@click.option("--expires", metavar="DURATION", help="How long it is good: 24h, 90d; default: until revoked.")
@click.option("--scope", default="", help="What it is good for: repository:PATTERN:ACTIONS; default: all.")
@click.option("--note", default="", help="What it is for, shown in the list.")
def add(
    account: str, data: Path | None, config: Path | None, *, expires: str | None, scope: str, note: str
) -> None:
    """Make a key of ACCOUNT. It is printed once, alone on the standard output, and kept nowhere."""
    with admin_session(data, config) as own:
        lifetime = parse_duration(expires) if expires else None
        own.require(account)
        made = own.accounts.add_key(account, limits=scope, note=note[:200], lifetime=lifetime)
        own.record("key add", who=account, key=made.id)
    click.echo(
        f"The key {made.id} of {account}. Log in with it as the password; nobody can show it again.", err=True
    )
    click.echo(made.text)


@key.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the keys."""
    with admin_session(data, config) as own:
        found = own.accounts.secrets(SecretKind.KEY)
    if as_json:
        records(found, "hash", "binding", "kind", "service")
        return
    rows = [
        (
            row.id,
            row.account,
            f"{row.created_at:%Y-%m-%d}",
            f"{row.expires_at:%Y-%m-%d %H:%M}" if row.expires_at else "never",
            row.limits or "-",
            row.note or "-",
        )
        for row in found
    ]
    table(("KEY", "ACCOUNT", "CREATED", "EXPIRES", "SCOPE", "NOTE"), rows)
    click.echo(f"{len(found)} keys.")


@key.command()
@click.argument("id_", metavar="KEY")
@settings_options
def revoke(id_: str, data: Path | None, config: Path | None) -> None:
    """End the key KEY (what `key list` calls it)."""
    revoke_secret(SecretKind.KEY, id_, data, config)
