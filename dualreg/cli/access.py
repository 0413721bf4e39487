"""``dualreg access``: the permission rules, and what they decide."""

from pathlib import Path

import click

from dualreg.auth.access import Action
from dualreg.catalog.rows import PermissionRow
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, records, table
from dualreg.image.names import RepositoryName
from dualreg.messages import counted
from dualreg.operations.access import rule_actions, rule_text


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
    with administration(data, config, changes=True) as admin:
        found = admin.access.grant(who, pattern, actions)
    if found.missing:
        echo(f"Warning: there is no {found.missing}.", err=True)
    if as_json:
        echo_json(found.rule)
        return
    echo(rule_text(found.rule))
    if not found.is_in_effect:
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
    with administration(data, config, changes=True) as admin:
        left = admin.access.revoke(who, pattern, actions).rule
    if as_json:
        echo_json(left or PermissionRow(who, pattern, frozenset()))
        return
    echo(f"Remaining rule: {rule_text(left)}" if left else f"Removed the rule {who} {pattern}.")


@access.command("list")
@json_option
@settings_options
def list_rules(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the permission rules."""
    with administration(data, config) as admin:
        found = admin.access.list()
    rules = found.rules
    if found.file:
        echo(f"The rules in effect are those in {found.file}; the rules below are ignored.", err=True)
    if as_json:
        records(rules)
        return
    table(("WHO", "PATTERN", "ACTIONS"), [(rule.who, rule.pattern, rule_actions(rule)) for rule in rules])
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
    with administration(data, config) as admin:
        found = admin.access.explain(who, RepositoryName.parse(repository), Action(action))
    if as_json:
        echo_json(found, indent=None)
    else:
        echo(f"{'yes' if found.allowed else 'no'}: {found.reason}")
