"""``dualreg clients``: who still needs V1."""

from pathlib import Path

import click

from dualreg.catalog.rows import ClientRow
from dualreg.cli.options import prepared_registry, settings_options
from dualreg.cli.output import records, table
from dualreg.settings import parse_duration

_HEADINGS = ("LAST SEEN", "ADDRESS", "VERSION", "REPOSITORY", "REQUESTS", "REFUSED")


@click.command()
@settings_options
@click.option("--since", default="30d", show_default=True, help="How far to look back: 90s, 15m, 24h, 7d.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def clients(data: Path | None, config: Path | None, since: str, *, as_json: bool) -> None:
    """List the V1 clients that came, the latest first: whom to upgrade before V1 is switched off."""
    try:
        duration = parse_duration(since)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    with prepared_registry(data, config) as (registry, settings):
        found = registry.clients.list(registry.now() - duration)
    if as_json:
        records(found)
        return
    table(_HEADINGS, [*map(_cells, found)])
    click.echo(_advice(found, since, settings.v1))


def _cells(row: ClientRow) -> tuple[str, ...]:
    seen = f"{row.last_seen:%Y-%m-%d %H:%M:%S}"
    return (seen, row.address or "-", row.version, row.repository or "-", str(row.requests), str(row.refused))


def _advice(found: object, since: str, mode: str) -> str:
    """Say what to do next."""
    if found:
        return f"V1 clients came within {since}: upgrade them to Docker 1.6 or newer, then look again."
    following = {"on": "`v1 = readonly`", "readonly": "`v1 = off`"}.get(mode)
    after = f"set {following} next." if following else "nothing is left to do."
    return f"No V1 client came within {since}: {after}"
