"""``dualreg repository``: whole repositories."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import click

from dualreg.catalog.rows import Origin
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, echo, echo_json, minute, records
from dualreg.cli.paging import listed, print_pages
from dualreg.image.names import RepositoryName
from dualreg.messages import counted
from dualreg.operations.repositories import RepositoryFacts, TreeEntry


@click.group()
def repository() -> None:
    """Manage repositories."""


@repository.command("list")
@click.argument("pattern", required=False)
@click.option("--search", metavar="TEXT", help="List those whose names contain TEXT, as PART or PART:TAG.")
@click.option("--after", default="", metavar="NAME", help="List what comes after NAME.")
@click.option("--limit", type=click.IntRange(1), help="List no more than so many.")
@json_option
@settings_options
def list_repositories(
    pattern: str | None, data: Path | None, config: Path | None, *,
    search: str | None, after: str, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List the repositories with tags, sizes, times, and origin.

    With PATTERN, it lists those whose names match. With --search PART:TAG, it lists those whose names contain
    PART, each with the first of its tags that begin with TAG. BYTES is the size of all blobs of a repository;
    OWN is the part that no other one has, and the rest is SHARED. The origin is the API over which the tags
    were pushed, or the upstream that the content comes from. With --json, each is one line.
    """
    headings = ("REPOSITORY", "TAGS", "BYTES", "OWN", "SHARED", "PUSHED", "PULLED", "ORIGIN")
    with administration(data, config, alone=True) as admin:
        read = partial(admin.repositories.list, pattern, search=search)
        found = listed(lambda n, end: read(n=n, after=end or ""), limit, after)
        count = print_pages(found, Columns(*headings), _cells, _members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'repository', 'repositories')}.")


def _cells(row: RepositoryFacts) -> Sequence[str]:
    numbers = map(str, (row.tags, row.bytes, row.own, row.bytes - row.own))
    times = (minute(at) if at else "never" for at in (row.pushed_at, row.pulled_at))
    name = row.name if row.tag is None else f"{row.name}:{row.tag}"
    return name, *numbers, *times, ", ".join(row.origins) or "-"


def _members(row: RepositoryFacts) -> dict[str, object]:
    return {
        "name": row.name,
        "tags": row.tags,
        "blobs": row.blobs,
        "bytes": row.bytes,
        "own": row.own,
        "shared": row.bytes - row.own,
        "created_at": row.created_at,
        "pushed_at": row.pushed_at,
        "pulled_at": row.pulled_at,
        "origins": row.origins,
        **({} if row.tag is None else {"tag": row.tag}),
    }


@repository.command()
@click.argument("under", metavar="NAMESPACE/", default="")
@click.option("--after", default="", metavar="NAME", help="List what comes after NAME.")
@click.option("--limit", type=click.IntRange(1), help="List no more than so many.")
@json_option
@settings_options
def tree(
    under: str, data: Path | None, config: Path | None, *, after: str, limit: int | None, as_json: bool
) -> None:
    """List what is directly under NAMESPACE/, or what all names begin with.

    Names that end with a slash are namespaces, and all others are repositories. With --json, each is one
    line.
    """
    headings = ("REPOSITORY", "TAGS", "BYTES", "OWN", "SHARED", "PUSHED", "PULLED", "ORIGIN")
    with administration(data, config, alone=True) as admin:
        read = partial(admin.repositories.tree, under)
        found = listed(lambda n, end: read(n=n, after=end or ""), limit, after)
        count = print_pages(found, Columns(*headings), _entry_cells, _entry_members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'name')}.")


def _entry_cells(entry: TreeEntry) -> Sequence[str]:
    return _cells(entry.facts) if entry.facts else (entry.name, *"-------")


def _entry_members(entry: TreeEntry) -> dict[str, object]:
    return {"namespace": entry.facts is None} | (
        _members(entry.facts) if entry.facts else {"name": entry.name}
    )


@repository.command()
@click.argument("name")
@json_option
@settings_options
def show(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the tags of the repository NAME with digest, origin, and times.

    The origin is the API over which the tag was pushed. The last line names the tags that V1 clients do not
    see, because they cannot use the image or because another image has its V1 ID.
    """
    with administration(data, config) as admin:
        parsed = RepositoryName.parse(name)
        pages = listed(lambda n, end: admin.tags.list(parsed, sizes=False, n=n, after=end))
        rows, unseen = [*chain.from_iterable(pages)], admin.repositories.unseen(parsed)
    if as_json:
        records(rows, "bytes", "own", "details")
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

    `dualreg repository restore` restores it, for as long as undelete_grace says. Safe while the registry is
    serving. A repository with immutable tags is kept, unless --force is given.
    """
    with administration(data, config, changes=True) as admin:
        found = admin.repositories.delete(RepositoryName.parse(name), force=force, dry_run=dry_run)
    echo(f"{'Would delete' if dry_run else 'Deleted'} {name} with {counted(found.tags, 'tag')}.")


@repository.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only print what would be restored.")
@json_option
@settings_options
def restore(name: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Restore what was in the repository NAME when it was last deleted.

    That is its tags, but for those that exist again, its manifests, and V1 images. It works for as long as
    undelete_grace says. Safe while the registry is serving.
    """
    with administration(data, config, changes=True) as admin:
        parsed = RepositoryName.parse(name)
        found = admin.repositories.restore(parsed, dry_run=dry_run)
    if as_json:
        echo_json({"repository": parsed, **found._asdict(), "dry_run": dry_run})
        return
    what = f"{counted(found.tags, 'tag')} and {counted(found.manifests, 'manifest')}"
    echo(f"{'Would restore' if dry_run else 'Restored'} {what} of {parsed}.")
    if found.lost:
        echo(f"Bytes of {', '.join(found.lost)} are gone: push them again.", err=True)
