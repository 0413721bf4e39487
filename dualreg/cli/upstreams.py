"""``dualreg upstreams``: what comes from other registries, and what does not have to."""

from pathlib import Path

import click

from dualreg.catalog.rows import UpstreamCount
from dualreg.cli.admin import prepared_registry
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
    with prepared_registry(data, config) as (registry, settings):
        counted = {each.upstream: each for each in registry.traffic().list()}
    names = {each.url: pattern for pattern, each in settings.upstreams.items()}
    found = [counted.get(url) or UpstreamCount(url) for url in dict.fromkeys((*names, *counted))]
    if as_json:
        records(found)
        return
    table(_HEADINGS, [_cells(each, names.get(each.upstream, "-")) for each in found])
    if not found:
        echo("No upstream is configured. See the setting upstreams.")


def _cells(row: UpstreamCount, names: str) -> tuple[str, ...]:
    return (row.upstream, names, *map(str, (row.hits, row.misses, row.stale, row.errors, row.bytes)))
