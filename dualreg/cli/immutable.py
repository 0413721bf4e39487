"""``dualreg immutable``: rules of tags that can be neither moved nor deleted."""

from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, records, table
from dualreg.image.names import RepositoryName, Tag
from dualreg.messages import counted


@click.group()
def immutable() -> None:
    """Manage rules of immutable tags.

    A tag that matches a rule can be pushed once. After that, it is neither moved nor deleted.
    """


@immutable.command()
@click.argument("pattern")
@settings_options
def add(pattern: str, data: Path | None, config: Path | None) -> None:
    """Make tags immutable that match PATTERN, such as 'team/*:v*'.

    In PATTERN, * matches anything. The rule holds for tags that exist, and for those that are pushed later.
    """
    with administration(data, config, changes=True, alone=True) as admin:
        is_new = admin.immutable.add(pattern).is_new
    echo(f"Tags that match {pattern} are immutable." if is_new else f"There is such a rule: {pattern}")


@immutable.command()
@click.argument("pattern")
@settings_options
def remove(pattern: str, data: Path | None, config: Path | None) -> None:
    """Remove the rule PATTERN."""
    with administration(data, config, changes=True, alone=True) as admin:
        admin.immutable.remove(pattern)
    echo(f"Removed the rule {pattern}.")


@immutable.command("list")
@json_option
@settings_options
def list_rules(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the rules of immutable tags."""
    with administration(data, config, alone=True) as admin:
        rules = admin.immutable.list()
    if as_json:
        records(rules)
        return
    table(("PATTERN", "ADDED"), [(rule.pattern, f"{rule.added_at:%Y-%m-%d %H:%M}") for rule in rules])
    echo(f"{counted(len(rules), 'rule')}." if rules else "No rules. Add one:  dualreg immutable add PATTERN")


@immutable.command()
@click.argument("image", metavar="REPOSITORY:TAG")
@json_option
@settings_options
def explain(image: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Explain whether a tag is immutable, or will be when it is pushed, and by which rule."""
    with administration(data, config, alone=True) as admin:
        name, _, text = image.rpartition(":")
        found = admin.immutable.explain(RepositoryName.parse(name), Tag.parse(text))
    if as_json:
        echo_json(found, indent=None)
    else:
        echo(f"yes: by the rule {found.rule}" if found.rule else "no: no rule matches it")
