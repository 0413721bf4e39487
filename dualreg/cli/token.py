"""``dualreg token``: the keys that tokens are signed with, and the tokens that last."""

from pathlib import Path

import click

from dualreg.auth.secrets import SecretKind
from dualreg.cli.authorities import admin_session, revoke_secret
from dualreg.cli.options import settings_options
from dualreg.cli.output import records, table
from dualreg.settings import parse_duration


@click.group()
def token() -> None:
    """Look after tokens."""


@token.command()
@settings_options
@click.option("--grace", default="24h", show_default=True, help="How long older keys are still accepted.")
def rotate(data: Path | None, config: Path | None, grace: str) -> None:
    """Sign tokens with a new key from now on."""
    with admin_session(data, config) as own:
        kid, accepted = own.authority.keyring.rotate(parse_duration(grace))
        own.record("token rotate", key=kid, grace=grace)
    click.echo(f"Tokens are signed with the key {kid} within a minute, by every process.")
    click.echo(
        f"Older keys still accepted: {accepted}, for {grace}." if accepted else "No older key is accepted."
    )


@token.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_tokens(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the refresh tokens: logins that last, such as those of `docker login`."""
    with admin_session(data, config) as own:
        found = own.accounts.secrets(SecretKind.REFRESH)
    if as_json:
        records(found, "hash", "binding", "kind", "limits", "note")
        return
    rows = [(row.id, row.account, f"{row.created_at:%Y-%m-%d %H:%M}") for row in found]
    table(("TOKEN", "ACCOUNT", "CREATED"), rows)
    click.echo(f"{len(found)} refresh tokens.")


@token.command()
@click.argument("id_", metavar="TOKEN")
@settings_options
def revoke(id_: str, data: Path | None, config: Path | None) -> None:
    """End the refresh token TOKEN (what `token list` calls it)."""
    revoke_secret(SecretKind.REFRESH, id_, data, config)
