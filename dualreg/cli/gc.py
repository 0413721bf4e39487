"""``dualreg gc``: what can be collected while the registry serves."""

import json
from pathlib import Path

import click

from dualreg.cli.admin_log import audited_registry
from dualreg.cli.options import settings_options
from dualreg.maintenance import uploads


@click.command()
@settings_options
@click.option("--dry-run", is_flag=True, help="Only say what would be discarded.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Discard uploads that were idle longer than ``upload_ttl``.

    Safe while the registry serves: an upload that its client touches meanwhile stays.
    """
    with audited_registry(data, config) as (registry, settings, record):
        before = registry.now() - settings.upload_ttl
        planned = uploads.plan(registry.uploads, before)
        found = len(planned.sessions) + len(planned.strays)
        discarded = 0 if dry_run else uploads.apply(registry.uploads, before, planned)
        if discarded:
            record("gc", discarded=discarded)
    if as_json:
        click.echo(json.dumps({"idle_uploads": found, "discarded": discarded}))
    elif dry_run:
        click.echo(f"{found} idle uploads would be discarded. Run without --dry-run to do it.")
    else:
        click.echo(f"Discarded {discarded} idle uploads.")
