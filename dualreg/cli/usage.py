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
from dualreg.registry.usage import ListedNamespace, Total

#: What is known of a namespace that was added up.
_MEASURED = ("blobs", "bytes", "own", "shared")


@click.command()
@click.argument("pattern", required=False)
@click.option(
    "--depth",
    type=click.IntRange(0, 20),
    help="Add up namespaces of DEPTH components; 0: the whole registry.",
)
@click.option("--brief", is_flag=True, help="Add up no namespaces of more than 5,000 blobs.")
@click.option("--after", default="", metavar="NAME", help="Show what comes after NAME.")
@click.option("--limit", type=click.IntRange(1), help="Show as many at most.")
@json_option
@settings_options
def usage(
    pattern: str | None, data: Path | None, config: Path | None, *,
    depth: int | None, after: str, limit: int | None, **flags: bool,
) -> None:  # fmt: skip
    """Show how many bytes repositories have.

    With PATTERN, it shows those whose names match. BYTES is the size of all blobs of a repository or
    namespace, each of which counts once. OWN is the part that nothing else has; the rest is SHARED. With
    --json, each is one line.
    """
    brief, as_json = flags["brief"], flags["as_json"]
    if brief and not depth:
        raise click.UsageError("--brief is for namespaces; give --depth, 1 or more")
    with administration(data, config, alone=True) as admin:
        if depth == 0:
            check_pattern(pattern or "")
            _show_total(admin.usage.total(), as_json=as_json)
            return
        listing = Columns("NAMESPACE" if depth else "REPOSITORY", "BLOBS", "BYTES", "OWN", "SHARED")
        if depth and brief:
            look = partial(admin.usage.overview, depth, pattern)
            briefly = listed(lambda n, end: look(n=n, after=end or ""), limit, after)
            print_pages(briefly, listing, _brief_cells, _brief_document, as_json=as_json)
            return
        measure = partial(admin.usage.namespaces, depth) if depth else admin.usage.repositories
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


def _brief_cells(row: ListedNamespace) -> tuple[str, ...]:
    return _cells(row.usage) if row.usage else (row.name, "many", "-", "-", "-")


def _brief_document(row: ListedNamespace) -> dict[str, object]:
    return _document(row.usage) if row.usage else {"name": row.name, **dict.fromkeys(_MEASURED)}
