"""``dualreg access``: who may do what with which repositories."""

import json
from pathlib import Path

import click

from dualreg.auth.access import ANONYMOUS, EVERYBODY, Action, Identity
from dualreg.auth.permissions import matching_rule
from dualreg.catalog.rows import PermissionRow
from dualreg.cli.authorities import AdminSession, admin_session
from dualreg.cli.options import settings_options
from dualreg.cli.output import records, table
from dualreg.image.names import RepositoryName


@click.group()
def access() -> None:
    """Look after permission lines. Each allows something; there is none that forbids."""


@access.command()
@click.argument("who")
@click.argument("pattern")
@click.argument("actions")
@settings_options
def grant(who: str, pattern: str, actions: str, data: Path | None, config: Path | None) -> None:
    """Let WHO do ACTIONS with the repositories of PATTERN.

    WHO is an account, @GROUP, authenticated or anonymous; in PATTERN, * stands for anything, and {account}
    for the account's name; ACTIONS are pull, push, delete and admin, by comma.
    """
    with admin_session(data, config) as own:
        _require_catalog(own)
        line = own.accounts.grant(who, pattern, actions)
        own.record("access grant", who=who, pattern=pattern, actions=actions)
        known = own.knows(who)
    click.echo(f"{_text(line)}")
    if own.settings.auth == "none":
        click.echo("This counts once the registry serves with auth = accounts or htpasswd.")
    elif not who.startswith("@") and who not in EVERYBODY and not known:
        click.echo(f"There is no account {who} yet.")


@access.command()
@click.argument("who")
@click.argument("pattern")
@click.argument("actions", required=False)
@settings_options
def revoke(who: str, pattern: str, actions: str | None, data: Path | None, config: Path | None) -> None:
    """Take ACTIONS, or all of them, from the line of WHO and PATTERN."""
    with admin_session(data, config) as own:
        _require_catalog(own)
        left = own.accounts.ungrant(who, pattern, actions)
        own.record("access revoke", who=who, pattern=pattern, actions=actions or "all")
    click.echo(f"Left: {_text(left)}" if left else f"Removed the line {who} {pattern}.")


@access.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_lines(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the permission lines."""
    with admin_session(data, config) as own:
        lines = own.accounts.rules()
        file = own.settings.permissions
    if file:
        click.echo(f"The lines that count are those of {file}; those of the catalog do not.", err=True)
    if as_json:
        records(lines)
        return
    table(("WHO", "PATTERN", "ACTIONS"), [(line.who, line.pattern, _actions(line)) for line in lines])
    click.echo(
        f"{len(lines)} lines." if lines else "No lines. Add one:  dualreg access grant WHO PATTERN ACTIONS"
    )


@access.command()
@click.argument("who")
@click.argument("repository")
@click.argument("action", type=click.Choice([str(action) for action in Action]))
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    who: str, repository: str, action: str, data: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Say whether WHO may do ACTION with REPOSITORY, and which line says so."""
    with admin_session(data, config) as own:
        name = RepositoryName.parse(repository)
        line = matching_rule(_identity(own, who), own.authority.rules, name, Action(action))
        mode = own.settings.auth
        person = who not in EVERYBODY and not who.startswith("@")
        unknown = person and mode != "token" and not own.knows(who)
    if mode == "token" and person:
        line = None  # lines count for anonymous and for workloads only
    allowed = line is not None or mode == "none"
    if mode == "none":
        reason = "auth = none, so everybody may do everything"
    elif mode == "token" and person:
        reason = "no line counts for accounts with auth = token: the issuer's tokens decide"
    else:
        reason = f"by the line {_text(line)}" if line else "no line allows it"
    if unknown:
        reason += f" (there is no account {who})"
    if as_json:
        click.echo(json.dumps({"allowed": allowed, "line": _text(line) if line else None, "reason": reason}))
    else:
        click.echo(f"{'yes' if allowed else 'no'}: {reason}")


def _require_catalog(own: AdminSession) -> None:
    """Refuse to change lines that count for nothing."""
    if own.settings.permissions:
        raise ValueError(f"the permission lines are in {own.settings.permissions}: change them there")


def _identity(own: AdminSession, who: str) -> Identity:
    if who == "anonymous":
        return ANONYMOUS
    if who.startswith("@"):
        return Identity(who, frozenset({who[1:]}))
    with own.accounts.catalog.read() as tx:
        return Identity(who, tx.accounts.groups(who))


def _text(line: PermissionRow) -> str:
    return f"{line.who} {line.pattern} {_actions(line)}"


def _actions(line: PermissionRow) -> str:
    return ",".join(action for action in Action if action in line.actions)
