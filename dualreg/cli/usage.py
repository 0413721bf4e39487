"""``dualreg usage``: bytes of repositories and namespaces."""

from functools import partial
from pathlib import Path

import click

from dualreg.catalog.rows import UsageRow
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, amount, echo, echo_json
from dualreg.cli.paging import listed, print_pages
from dualreg.patterns import check_pattern
from dualreg.registry.usage import Total


@click.command()
@click.argument("pattern", required=False)
@click.option(
    "--depth",
    type=click.IntRange(0, 20),
    help="Add up namespaces of DEPTH components; 0: the whole registry.",
)
@click.option("--after", default="", metavar="NAME", help="Show what comes after NAME.")
@click.option("--limit", type=click.IntRange(1), help="Show as many at most.")
@json_option
@settings_options
def usage(
    pattern: str | None, data: Path | None, config: Path | None, *,
    depth: int | None, after: str, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Show how many bytes repositories have.

    With PATTERN, it shows those whose names match. BYTES is the size of all blobs of a repository or
    namespace, each of which counts once. OWN is the part that nothing else has; the rest is SHARED. With
    --json, each is one line.
    """
    with administration(data, config, alone=True) as admin:
        if depth == 0:
            check_pattern(pattern or "")
            _show_total(admin.usage.total(), as_json=as_json)
            return
        measure = partial(admin.usage.namespaces, depth) if depth else admin.usage.repositories
        listing = Columns("NAMESPACE" if depth else "REPOSITORY", "BLOBS", "BYTES", "OWN", "SHARED")
        found = listed(lambda n, end: measure(pattern, n=n, after=end or ""), limit, after)
        print_pages(found, listing, _cells, _document, as_json=as_json)


def _show_total(found: Total, *, as_json: bool) -> None:
    if as_json:
        echo_json(found._asdict(), indent=None)
        return
    kept = f", and {found.deleted} bytes that are kept for undelete" if found.deleted else ""
    garbage = f"{found.garbage} bytes more that the next collections delete"
    echo(f"{amount(found.blobs, found.bytes)}; {garbage}{kept}.")


def _cells(row: UsageRow) -> tuple[str, ...]:
    return tuple(map(str, _document(row).values()))


def _document(row: UsageRow) -> dict[str, object]:
    return {
        "name": row.name,
        "blobs": row.blobs,
        "bytes": row.bytes,
        "own": row.own,
        "shared": row.bytes - row.own,
    }
