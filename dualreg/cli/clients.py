"""``dualreg clients``: which clients still use V1."""

from pathlib import Path

import click

from dualreg.catalog.rows import ClientRow
from dualreg.cli.administration import administration
from dualreg.cli.farewell import print_farewell
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, records, table
from dualreg.settings import parse_duration

_HEADINGS = ("LAST SEEN", "ADDRESS", "VERSION", "REPOSITORY", "REQUESTS", "REFUSED")


@click.command()
@click.option("--since", default="30d", show_default=True, help="Look back this far: 90s, 15m, 24h, 7d.")
@click.option("--summary", is_flag=True, help="Show how far the move away from V1 has come instead.")
@json_option
@settings_options
def clients(data: Path | None, config: Path | None, since: str, *, summary: bool, as_json: bool) -> None:
    """List recent V1 clients.

    The most recent is first. Upgrade these clients before you turn V1 off. With --summary, they are counted
    by version, address, repository and week, and the last lines say whether it is safe to take the next
    step: `dualreg v1 set readonly`, then `dualreg v1 set off`.
    """
    try:
        duration = parse_duration(since)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    with administration(data, config) as admin:
        if summary:
            print_farewell(admin.service.farewell(duration), as_json=as_json)
            return
        seen = admin.service.clients(duration)
    found = seen.clients
    if as_json:
        records(found)
        return
    table(_HEADINGS, [*map(_cells, found)])
    echo(_next_step(found, since, seen.v1))


def _cells(row: ClientRow) -> tuple[str, ...]:
    seen = f"{row.last_seen:%Y-%m-%d %H:%M:%S}"
    return (seen, row.address or "-", row.version, row.repository or "-", str(row.requests), str(row.refused))


def _next_step(found: object, since: str, mode: str) -> str:
    if found:
        return f"V1 clients connected in the last {since}. Upgrade them to Docker 1.6 or later."
    following = {"on": "readonly", "readonly": "off"}.get(mode)
    step = f"Next: run `dualreg v1 set {following}`." if following else "V1 is off already."
    return f"No V1 client connected in the last {since}. {step}"
