"""``dualreg repository``: whole repositories."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import click

from dualreg.catalog.rows import Origin
from dualreg.cli.admin import audited_registry, prepared_registry
from dualreg.cli.options import json_option, reach_of, settings_options
from dualreg.cli.output import Columns, counted, echo, echo_json, minute, records
from dualreg.cli.paging import tag_pages
from dualreg.cli.readonly import require_changeable
from dualreg.errors import RegistryError
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach
from dualreg.registry import Registry
from dualreg.registry.usage import ListedRepository

#: Repositories that are read at a time.
_PAGE = 200


@click.group()
def repository() -> None:
    """Manage repositories."""


@repository.command("list")
@click.argument("pattern", required=False)
@click.option("--after", default="", metavar="NAME", help="List what comes after NAME.")
@click.option("--limit", type=click.IntRange(1), help="List no more than so many.")
@json_option
@settings_options
def list_repositories(
    pattern: str | None, data: Path | None, config: Path | None, *,
    after: str, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List the repositories with tags, sizes, times, and origin.

    With PATTERN, it lists those whose names match. BYTES is the size of all blobs of a repository; OWN is the
    part that no other one has, and the rest is SHARED. The origin is the API over which the tags were pushed,
    or the upstream that the content comes from. With --json, each is one line.
    """
    reach = reach_of(pattern)
    headings = ("REPOSITORY", "TAGS", "BYTES", "OWN", "SHARED", "PUSHED", "PULLED", "ORIGIN")
    columns, count = Columns(*headings), 0
    with prepared_registry(data, config, alone=True) as (registry, _):
        for rows in _pages(registry, reach, after, limit):
            count += len(rows)
            for row in rows if as_json else ():
                echo_json(_members(row), indent=None)
            if not as_json:
                columns.add([_cells(row) for row in rows])
    if not as_json:
        echo(f"{counted(count, 'repository', 'repositories')}.")


def _pages(
    registry: Registry, reach: Reach, after: str, limit: int | None
) -> Iterator[Sequence[ListedRepository]]:
    """Yield repositories, up to *limit*, page by page."""
    left, place = limit, after
    while left != 0:
        rows, following = registry.usage.listed(after=place, limit=min(left or _PAGE, _PAGE), reach=reach)
        yield rows
        if following is None:
            return
        left, place = None if left is None else left - len(rows), following


def _origins(row: ListedRepository) -> list[str]:
    pushed = {Origin.V1: row.tags.v1, Origin.V2: row.tags.tags - row.tags.v1}
    return [row.tags.upstream] if row.tags.upstream else [origin for origin in pushed if pushed[origin]]


def _cells(row: ListedRepository) -> Sequence[str]:
    usage, tags = row
    numbers = map(str, (tags.tags, usage.bytes, usage.own, usage.bytes - usage.own))
    times = (minute(at) if at else "never" for at in (tags.pushed_at, tags.pulled_at))
    return usage.name, *numbers, *times, ", ".join(_origins(row)) or "-"


def _members(row: ListedRepository) -> dict[str, object]:
    usage, tags = row
    return {
        "name": usage.name,
        "tags": tags.tags,
        "blobs": usage.blobs,
        "bytes": usage.bytes,
        "own": usage.own,
        "shared": usage.bytes - usage.own,
        "created_at": tags.created_at,
        "pushed_at": tags.pushed_at,
        "pulled_at": tags.pulled_at,
        "origins": _origins(row),
    }


@repository.command()
@click.argument("name")
@json_option
@settings_options
def show(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the tags of the repository NAME with digest, origin, and times.

    The origin is the API over which the tag was pushed. The last line names the tags that V1 clients do not
    see, because they cannot use the image or because another image has its V1 ID.
    """
    try:
        parsed = RepositoryName.parse(name)
        with prepared_registry(data, config) as (registry, _):
            rows, unseen = [*chain.from_iterable(tag_pages(registry, parsed))], registry.bridge.unseen(parsed)
    except RegistryError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        records(rows)
        return
    for row in rows:
        pulled = f"{row.pulled_at:%Y-%m-%d %H:%M}" if row.pulled_at else "never"
        pushed = f"{row.pushed_at:%Y-%m-%d %H:%M}"
        echo(f"{row.name}  {row.digest}  from {row.origin}  pushed {pushed}  pulled {pulled}")
    from_v1 = sum(row.origin is Origin.V1 for row in rows)
    echo(f"{counted(len(rows), 'tag')}, {from_v1} of them pushed over V1.")
    if unseen:
        echo(f"V1 clients do not see {', '.join(unseen)}.")


@repository.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Delete immutable tags, too.")
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@settings_options
def delete(name: str, data: Path | None, config: Path | None, *, force: bool, dry_run: bool) -> None:
    """Delete the repository NAME with its tags, manifests, and V1 images.

    Safe while the registry is serving. A repository with immutable tags is kept, unless --force is given.
    """
    try:
        parsed = RepositoryName.parse(name)
        with audited_registry(data, config) as (registry, settings, record):
            tags = registry.tags.list(parsed).rows
            if dry_run and not force:
                registry.immutability.require_deletable(parsed)
            if not dry_run:
                require_changeable(settings)
                registry.repositories.delete(parsed, force=force)
                record("repository delete", repository=parsed, tags=len(tags))
    except RegistryError as error:
        raise click.ClickException(str(error)) from error
    echo(f"{'Would delete' if dry_run else 'Deleted'} {name} with {counted(len(tags), 'tag')}.")
