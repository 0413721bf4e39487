"""``dualreg upstreams``: what comes from other registries, and what does not have to."""

from pathlib import Path

import click

from dualreg.catalog.rows import UpstreamCount
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, records, table

_HEADINGS = ("UPSTREAM", "NAMES", "HITS", "MISSES", "STALE", "ERRORS", "BYTES")


@click.command()
@json_option
@settings_options
def upstreams(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show what was fetched from other registries.

    HITS are pulls by tag of images that this registry had. MISSES are manifests and blobs that were fetched,
    BYTES those of the blobs. STALE is how often an upstream failed and an older copy was served, ERRORS how
    often nothing could be.
    """
    with administration(data, config) as admin:
        found = admin.service.upstreams()
    if as_json:
        records([each.counts for each in found])
        return
    table(_HEADINGS, [_cells(each.counts, each.names or "-") for each in found])
    if not found:
        echo("No upstream is configured. See the setting upstreams.")


def _cells(row: UpstreamCount, names: str) -> tuple[str, ...]:
    return (row.upstream, names, *map(str, (row.hits, row.misses, row.stale, row.errors, row.bytes)))
