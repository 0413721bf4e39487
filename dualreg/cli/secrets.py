"""``dualreg key`` and ``dualreg token``: API keys, refresh tokens, and the keys that sign tokens."""

from pathlib import Path

import click

from dualreg.auth.secrets import SecretKind
from dualreg.cli.admin import admin_session
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import counted, echo, echo_json, records, table
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
    with admin_session(data, config) as session:
        lifetime = parse_duration(expires) if expires else None
        session.require(account)
        made = session.accounts.add_key(account, limits=scope, note=note[:200], lifetime=lifetime)
        session.record("key add", who=account, key=made.id)
    if as_json:
        echo_json({"account": account, "id": made.id, "secret": made.text})
        return
    echo(
        f"Created key {made.id} for {account}. Log in with it as the password. It is not shown again:",
        err=True,
    )
    echo(made.text)


@key.command("list")
@json_option
@settings_options
def list_keys(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the API keys."""
    with admin_session(data, config, changes=False) as session:
        keys = session.accounts.secrets(SecretKind.KEY)
    if as_json:
        records(keys, "hash", "binding", "kind", "service")
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
    _revoke(SecretKind.KEY, id_, data, config, as_json=as_json)


@click.group()
def token() -> None:
    """Manage tokens."""


@token.command()
@click.option("--grace", default="24h", show_default=True, help="Accept the older keys for this long.")
@json_option
@settings_options
def rotate(data: Path | None, config: Path | None, grace: str, *, as_json: bool) -> None:
    """Sign tokens with a new key from now on."""
    with admin_session(data, config) as session:
        kid, accepted = session.authority.keyring.rotate(parse_duration(grace))
        session.record("token rotate", key=kid, grace=grace)
    if as_json:
        echo_json({"key": kid, "accepted": accepted, "grace": grace})
        return
    echo(f"The new signing key is {kid}. Every process uses it within a minute.")
    echo(f"Older keys still accepted: {accepted}, for {grace}." if accepted else "No older key is accepted.")


@token.command("list")
@json_option
@settings_options
def list_tokens(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the refresh tokens, which are long-lived logins such as those of docker login."""
    with admin_session(data, config, changes=False) as session:
        tokens = session.accounts.secrets(SecretKind.REFRESH)
    if as_json:
        records(tokens, "hash", "binding", "kind", "limits", "note", "used_at")
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
    _revoke(SecretKind.REFRESH, id_, data, config, as_json=as_json)


def _revoke(kind: SecretKind, id_: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    with admin_session(data, config) as session:
        row = session.accounts.revoke(kind, id_)
        session.record(f"{kind} revoke", who=row.account, id=id_)
    if as_json:
        echo_json({"account": row.account, "id": id_})
        return
    echo(f"Revoked {id_} of {row.account}.")
