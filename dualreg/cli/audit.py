"""``dualreg audit``: who changed what, and who was denied what."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypedDict, Unpack

import click

from dualreg.auth.audit_reading import AuditLine
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, parse_time, settings_options
from dualreg.cli.output import Columns, echo, second
from dualreg.cli.paging import listed, print_pages
from dualreg.messages import counted
from dualreg.operations.audit import words_of
from dualreg.operations.session import Listing

_HEADINGS = ("AT", "EVENT", "WHO", "ADDRESS", "WHAT", "ON", "STATUS")


class _Wanted(TypedDict):
    """Which lines are wanted, as options say."""

    account: str
    action: str
    since: datetime | None
    until: datetime | None


def _time(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    return parse_time(text) if text else None


@click.command()
@click.argument("pattern", required=False)
@click.option("--account", default="", help="List only what ACCOUNT did, or was denied.")
@click.option(
    "--action",
    default="",
    help='List only an action (push), command ("tag delete"), group of commands (tag), or event (denied).',
)
@click.option(
    "--since", callback=_time, metavar="TIME", help="List only what is not older, as 2026-01-31T12:00Z."
)
@click.option("--until", callback=_time, metavar="TIME", help="List only what is not newer.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="List no more than so many."
)
@json_option
@settings_options
def audit(
    pattern: str | None, data: Path | None, config: Path | None, *,
    limit: int, as_json: bool, **wanted: Unpack[_Wanted],
) -> None:  # fmt: skip
    """Search the audit log.

    It lists writes, denials and commands, the newest first. With PATTERN, it lists those in repositories
    whose names match. Each instance has its own log. With --json, each line is printed as it is in the
    log, without passwords and tokens.
    """
    names, damaged = set[str](), 0
    with administration(data, config, unopened=True) as admin:

        def read(n: int, after: str | None) -> Listing[AuditLine]:
            nonlocal damaged
            page = admin.audit.read(pattern, **wanted, n=n, after=after)
            names.add(page.instance)
            damaged += page.damaged
            return Listing(page.rows, page.next)

        count = print_pages(listed(read, limit), Columns(*_HEADINGS), _cells, _members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'line')} of the audit log of {', '.join(sorted(names))}.")
    if damaged:
        echo(f"{counted(damaged, 'line')} of the log cannot be read.", err=True)


def _cells(line: AuditLine) -> Sequence[str]:
    words = words_of(line)
    facts = (words.who, line.fact("address"), words.what, words.about, line.fact("status"))
    return second(line.at), line.event, *(each or "-" for each in facts)


def _members(line: AuditLine) -> Mapping[str, object]:
    return {"time": line.at, "event": line.event, **line.facts}
