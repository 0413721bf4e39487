"""``dualreg usage``: bytes of repositories and namespaces."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from dualreg.catalog.rows import UsageRow
from dualreg.cli.admin import prepared_registry
from dualreg.cli.options import json_option, reach_of, settings_options
from dualreg.cli.output import Columns, amount, echo, echo_json
from dualreg.registry import Registry
from dualreg.registry.usage import UsagePage

#: Repositories that are measured at a time.
_PAGE = 200


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
    reach = reach_of(pattern)
    with prepared_registry(data, config, alone=True) as (registry, _):
        if depth == 0:
            _show_total(registry, as_json=as_json)
            return
        measure = partial(registry.usage.namespaces, depth) if depth else registry.usage.repositories
        listing = Columns("NAMESPACE" if depth else "REPOSITORY", "BLOBS", "BYTES", "OWN", "SHARED")
        for rows in _pages(partial(measure, reach=reach), after, limit):
            documents = [*map(_document, rows)]
            for document in documents if as_json else ():
                echo_json(document, indent=None)
            if not as_json:
                listing.add([tuple(map(str, each.values())) for each in documents])


def _show_total(registry: Registry, *, as_json: bool) -> None:
    found = registry.usage.total()
    if as_json:
        echo_json(found._asdict(), indent=None)
        return
    echo(f"{amount(found.blobs, found.bytes)}; {found.garbage} bytes more that the next collections delete.")


def _pages(measure: Callable[..., UsagePage], after: str, limit: int | None) -> Iterator[Sequence[UsageRow]]:
    """Yield usage, page by page."""
    left, place = limit, after
    while left is None or left > 0:
        page = measure(after=place, limit=min(left or _PAGE, _PAGE))
        yield page.rows
        if page.after is None:
            return
        left = None if left is None else left - len(page.rows)
        place = page.after


def _document(row: UsageRow) -> dict[str, object]:
    return {
        "name": row.name,
        "blobs": row.blobs,
        "bytes": row.bytes,
        "own": row.own,
        "shared": row.bytes - row.own,
    }
