"""``dualreg access``: the permission rules, and what they decide."""

from pathlib import Path

import click

from dualreg.auth.access import ANONYMOUS, EVERYBODY, Action, Identity
from dualreg.auth.permissions import ACTIONS, matching_rule
from dualreg.auth.workloads import parse_workload_rules
from dualreg.catalog.rows import PermissionRow
from dualreg.cli.admin import AdminSession, admin_session
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import counted, echo, echo_json, records, table
from dualreg.image.names import RepositoryName


@click.group()
def access() -> None:
    """Manage permission rules.

    A rule allows actions; what no rule allows is denied.
    """


@access.command()
@click.argument("who")
@click.argument("pattern")
@click.argument("actions")
@json_option
@settings_options
def grant(
    who: str, pattern: str, actions: str, data: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Allow WHO to perform ACTIONS on repositories that match PATTERN.

    WHO is an account, @GROUP, authenticated, or anonymous. In PATTERN, * matches anything and {account} is
    the name of the account. ACTIONS is a comma-separated list of pull, push, delete, admin,
    and manage.
    """
    with admin_session(data, config) as session:
        _require_catalog_rules(session)
        rule = session.accounts.grant(who, pattern, actions)
        session.record("access grant", who=who, pattern=pattern, actions=actions)
        missing = _missing(session, who)
    if missing:
        echo(f"Warning: there is no {missing}.", err=True)
    if as_json:
        echo_json(rule)
        return
    echo(_text(rule))
    if session.settings.auth == "none":
        echo("Rules take effect once the registry serves with auth = accounts or htpasswd.")


@access.command()
@click.argument("who")
@click.argument("pattern")
@click.argument("actions", required=False)
@json_option
@settings_options
def revoke(
    who: str, pattern: str, actions: str | None, data: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Remove ACTIONS, or all actions, from the rule for WHO and PATTERN."""
    with admin_session(data, config) as session:
        _require_catalog_rules(session)
        left = session.accounts.ungrant(who, pattern, actions)
        session.record("access revoke", who=who, pattern=pattern, actions=actions or "all")
    if as_json:
        echo_json(left or PermissionRow(who, pattern, frozenset()))
        return
    echo(f"Remaining rule: {_text(left)}" if left else f"Removed the rule {who} {pattern}.")


@access.command("list")
@json_option
@settings_options
def list_rules(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the permission rules."""
    with admin_session(data, config, changes=False) as session:
        rules = session.accounts.rules()
        file = session.settings.permissions
    if file:
        echo(f"The rules in effect are those in {file}; the rules below are ignored.", err=True)
    if as_json:
        records(rules)
        return
    table(("WHO", "PATTERN", "ACTIONS"), [(rule.who, rule.pattern, _actions(rule)) for rule in rules])
    echo(
        f"{counted(len(rules), 'rule')}."
        if rules
        else "No rules. Add one:  dualreg access grant WHO PATTERN ACTIONS"
    )


@access.command()
@click.argument("who")
@click.argument("repository")
@click.argument("action", type=click.Choice([str(action) for action in Action]))
@json_option
@settings_options
def explain(
    who: str, repository: str, action: str, data: Path | None, config: Path | None, *, as_json: bool
) -> None:
    """Explain whether ACTION on REPOSITORY is allowed for WHO, and by which rule."""
    with admin_session(data, config, changes=False) as session:
        name = RepositoryName.parse(repository)
        rule = matching_rule(_identity(session, who), session.authority.rules, name, Action(action))
        mode = session.settings.auth
        person = who not in EVERYBODY and not who.startswith("@")
        unknown = person and mode != "token" and not session.knows(who)
    if mode == "token" and person:
        rule = None  # rules apply to anonymous and to workloads only
    allowed = rule is not None or mode == "none"
    if mode == "none":
        reason = "auth = none allows everything"
    elif mode == "token" and person:
        reason = "with auth = token, the tokens of the issuer decide for accounts, not the rules"
    else:
        reason = f"by the rule {_text(rule)}" if rule else "no rule allows it"
    if unknown:
        reason += f" (there is no account {who})"
    if as_json:
        echo_json({"allowed": allowed, "line": _text(rule) if rule else None, "reason": reason}, indent=None)
    else:
        echo(f"{'yes' if allowed else 'no'}: {reason}")


def _require_catalog_rules(session: AdminSession) -> None:
    """Raise ValueError if the rules in effect are in a file, so that those in the catalog are ignored."""
    if file := session.settings.permissions:
        raise ValueError(f"the permission rules in effect are those in {file}; edit that file instead")


def _missing(session: AdminSession, who: str) -> str:
    """Return the account or group that a rule is for, with what to do, if it does not exist; else nothing."""
    settings = session.settings
    if who in EVERYBODY:
        return ""
    if who.startswith("@"):
        groups = {name for name, _ in session.accounts.memberships()}
        groups |= {rule.group for rule in parse_workload_rules(settings.oidc_rules)}
        return "" if who[1:] in groups else f"group {who} yet; add accounts to it with `dualreg group add`"
    return "" if settings.auth == "token" or session.knows(who) else f"account {who} yet"


def _identity(session: AdminSession, who: str) -> Identity:
    if who == "anonymous":
        return ANONYMOUS
    if who.startswith("@"):
        return Identity(who, frozenset({who[1:]}))
    with session.accounts.catalog.read() as tx:
        return Identity(who, tx.accounts.groups(who))


def _text(rule: PermissionRow) -> str:
    return f"{rule.who} {rule.pattern} {_actions(rule)}"


def _actions(rule: PermissionRow) -> str:
    return ",".join(action for action in ACTIONS if action in rule.actions)
