"""``dualreg key`` and ``dualreg token``: API keys, refresh tokens, and the keys that sign tokens."""

from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, records, table
from dualreg.messages import counted
from dualreg.operations.secrets import Revoked
from dualreg.settings import parse_duration


@click.group()
def key() -> None:
    """Manage API keys.

    An API key stands in for the password of its account.
    """


@key.command()
@click.argument("account")
@click.option(
    "--expires", metavar="DURATION", help="Expire after DURATION, such as 24h or 90d.  [default: never]"
)
@click.option("--scope", default="", help="Limit the key to repository:PATTERN:ACTIONS.  [default: no limit]")
@click.option("--note", default="", help="Attach a note, shown by key list.")
@json_option
@settings_options
def add(
    account: str,
    data: Path | None,
    config: Path | None,
    *,
    expires: str | None,
    scope: str,
    note: str,
    as_json: bool,
) -> None:
    """Create an API key for ACCOUNT.

    The key is printed once, alone on standard output, and cannot be recovered.
    """
    with administration(data, config, changes=True) as admin:
        lifetime = parse_duration(expires) if expires else None
        made = admin.keys.add(account, scope=scope, note=note, expires=lifetime)
    if as_json:
        echo_json(made)
        return
    echo(
        f"Created key {made.id} for {account}. Log in with it as the password. It is not shown again:",
        err=True,
    )
    echo(made.secret)


@key.command("list")
@json_option
@settings_options
def list_keys(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the API keys."""
    with administration(data, config) as admin:
        keys = admin.keys.list()
    if as_json:
        records(keys)
        return
    rows = [
        (
            row.id,
            row.account,
            f"{row.created_at:%Y-%m-%d}",
            f"{row.expires_at:%Y-%m-%d %H:%M}" if row.expires_at else "never",
            f"{row.used_at:%Y-%m-%d %H:%M}" if row.used_at else "-",
            row.limits or "-",
            row.note or "-",
        )
        for row in keys
    ]
    table(("KEY", "ACCOUNT", "CREATED", "EXPIRES", "USED", "SCOPE", "NOTE"), rows)
    echo(f"{counted(len(keys), 'key')}.")


@key.command("revoke")
@click.argument("id_", metavar="KEY")
@json_option
@settings_options
def revoke_key(id_: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Revoke the API key KEY, which is an ID shown by key list, and the keys that were created with it."""
    with administration(data, config, changes=True) as admin:
        revoked = admin.keys.revoke(id_)
    _print(revoked, as_json=as_json)


@click.group()
def token() -> None:
    """Manage tokens."""


@token.command()
@click.option("--grace", default="24h", show_default=True, help="Accept the older keys for this long.")
@json_option
@settings_options
def rotate(data: Path | None, config: Path | None, grace: str, *, as_json: bool) -> None:
    """Sign tokens with a new key from now on."""
    with administration(data, config, changes=True) as admin:
        found = admin.tokens.rotate(parse_duration(grace))
    if as_json:
        echo_json({"key": found.key, "accepted": found.accepted, "grace": grace})
        return
    echo(f"The new signing key is {found.key}. Every process uses it within a minute.")
    older = f"Older keys still accepted: {found.accepted}, for {grace}."
    echo(older if found.accepted else "No older key is accepted.")


@token.command("list")
@json_option
@settings_options
def list_tokens(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the refresh tokens, which are long-lived logins such as those of docker login."""
    with administration(data, config) as admin:
        tokens = admin.tokens.list()
    if as_json:
        records(tokens)
        return
    rows = [(row.id, row.account, f"{row.created_at:%Y-%m-%d %H:%M}") for row in tokens]
    table(("TOKEN", "ACCOUNT", "CREATED"), rows)
    echo(f"{counted(len(tokens), 'refresh token')}.")


@token.command("revoke")
@click.argument("id_", metavar="TOKEN")
@json_option
@settings_options
def revoke_token(id_: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Revoke the refresh token TOKEN, which is an ID shown by token list."""
    with administration(data, config, changes=True) as admin:
        revoked = admin.tokens.revoke(id_)
    _print(revoked, as_json=as_json)


def _print(revoked: Revoked, *, as_json: bool) -> None:
    if as_json:
        echo_json(revoked)
        return
    echo(f"Revoked {revoked.id} of {revoked.account}.")
