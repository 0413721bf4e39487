"""``dualreg tag``: tags, what they pointed at, and where they point."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from dualreg.catalog.dialects import batches
from dualreg.catalog.moves import HistoryRow
from dualreg.catalog.orders import TagOrder
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, parse_time, settings_options
from dualreg.cli.output import Columns, echo, echo_json, members, second, sized
from dualreg.cli.paging import listed, print_pages
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.messages import counted
from dualreg.operations.tags import TAGS_AT_ONCE, DeletedTag, DeletedTags, SizedTag
from dualreg.registry.history import Restoration

_dry_run = click.option("--dry-run", is_flag=True, help="Only print what would be changed.")


@click.group()
def tag() -> None:
    """Manage tags."""


@tag.command("list")
@click.argument("repository")
@click.option(
    "--sort",
    type=click.Choice([*map(str, TagOrder)]),
    default=str(TagOrder.NAME),
    help="List them by name, push, pull or size; with a minus, the last or largest comes first.",
)
@click.option("--newest", is_flag=True, help="List the tag that was pushed last first, not by name.")
@click.option("--prefix", default="", help="List only tags that begin with PREFIX.")
@click.option("--limit", type=click.IntRange(1), help="List no more than so many.")
@json_option
@settings_options
def list_tags(  # noqa: PLR0913 -- options
    repository: str, data: Path | None, config: Path | None, *,
    sort: str, newest: bool, prefix: str, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List the tags of REPOSITORY with digest, origin, times, and sizes.

    The origin is the API over which the tag was pushed. BYTES is the size of all that a tag needs; OWN is the
    part that nothing else needs, and the rest is SHARED; they are left out of a tag that needs thousands of
    manifests and blobs. With --json, each tag is one line.
    """
    columns = Columns("TAG", "DIGEST", "ORIGIN", "PUSHED", "PULLED", "BYTES", "OWN", "SHARED")
    with administration(data, config, alone=True) as admin:
        order = TagOrder.LAST_PUSHED if newest else TagOrder(sort)
        read = partial(admin.tags.list, RepositoryName.parse(repository), prefix=prefix, sort=order)
        found = listed(lambda n, end: read(n=n, after=end), limit)
        count = print_pages(found, columns, _tag_cells, _tag_members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'tag')}.")


def _tag_cells(row: SizedTag) -> Sequence[str]:
    pulled = second(row.pulled_at) if row.pulled_at else "never"
    sizes = ("-" if each is None else str(each) for each in (row.bytes, row.own, _shared(row)))
    return row.name, str(row.digest), row.origin, second(row.pushed_at), pulled, *sizes


def _tag_members(row: SizedTag) -> dict[str, object]:
    names = ("name", "digest", "media_type", "size", "pushed_at", "pulled_at", "origin", "bytes", "own")
    return {name: getattr(row, name) for name in names} | {"shared": _shared(row)}


def _shared(row: SizedTag) -> int | None:
    """Return the bytes that something else needs, too; None: that was not measured."""
    return None if row.bytes is None or row.own is None else row.bytes - row.own


@tag.command()
@click.argument("reference", metavar="REPOSITORY:TAG")
@click.option("--limit", type=click.IntRange(1), help="Show no more than so many moves.")
@json_option
@settings_options
def history(
    reference: str, data: Path | None, config: Path | None, *, limit: int | None, as_json: bool
) -> None:
    """Show what a tag pointed at, and who moved it, the newest move first.

    VIA is the API (v1, v2 or api), ui for the web UI, or command, import, upstream or follower. WHO is an
    account, a command, or the source or registry that the image came from. With --json, each move is one
    line.
    """
    columns = Columns("AT", "VIA", "WHO", "POINTS AT")
    with administration(data, config, alone=True) as admin:
        read = partial(admin.tags.history, *_parse(reference))
        found = listed(lambda n, end: read(n=n, after=end), limit)
        count = print_pages(found, columns, _move_cells, _move_members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'move')}." if count else f"{reference} has no history.")


def _move_cells(row: HistoryRow) -> Sequence[str]:
    what = str(row.new) if row.new else "deleted"
    return second(row.at), row.api, row.actor or "-", what


def _move_members(row: HistoryRow) -> dict[str, object]:
    facts = row._asdict()
    del facts["id"]
    return facts


@tag.command()
@click.option("--limit", type=click.IntRange(1), default=20, help="Show no more than so many moves.")
@json_option
@settings_options
def recent(data: Path | None, config: Path | None, *, limit: int, as_json: bool) -> None:
    """Show the last moves of tags in all repositories, the newest first.

    VIA and WHO are those of `dualreg tag history`. With --json, each move is one line.
    """
    columns = Columns("AT", "VIA", "WHO", "TAG", "POINTS AT")
    with administration(data, config, alone=True) as admin:
        rows = admin.tags.recent(n=limit)
        count = print_pages(iter([rows]), columns, _recent_cells, _move_members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'move')}.")


def _recent_cells(row: HistoryRow) -> Sequence[str]:
    at, via, who, what = _move_cells(row)
    return at, via, who, f"{row.repository}:{row.tag}", what


@tag.command()
@click.argument("reference", metavar="REPOSITORY:TAG")
@click.option("--to", metavar="DIGEST", help="Point it at this manifest.")
@click.option("--at", metavar="TIME", help="Point it at what it pointed at then, such as 2026-01-31T12:00Z.")
@_dry_run
@json_option
@settings_options
def restore(
    reference: str, data: Path | None, config: Path | None, *,
    to: str | None, at: str | None, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Point a tag, or one that was deleted, at what it pointed at before.

    By default, that is the last manifest that it pointed at and does not now, so doing it twice changes
    nothing. A manifest that was deleted is restored along with it, for as long as undelete_grace says. Safe
    while the registry is serving.
    """
    if to and at:
        raise click.UsageError("give --to or --at, not both")
    with administration(data, config, changes=True) as admin:
        repository, name = _parse(reference)
        digest, then = Digest.parse(to) if to else None, parse_time(at) if at else None
        planned = admin.tags.restore(repository, name, to=digest, at=then, dry_run=dry_run)
    _print(planned, dry_run=dry_run, as_json=as_json)


@tag.command("set")
@click.argument("reference", metavar="REPOSITORY:TAG")
@click.argument("target", metavar="TAG|DIGEST")
@_dry_run
@json_option
@settings_options
def set_tag(
    reference: str, target: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    """Point a tag at the image of another tag of the repository, or at a manifest that it has.

    Safe while the registry is serving.
    """
    with administration(data, config, changes=True) as admin:
        planned = admin.tags.set(*_parse(reference), target, dry_run=dry_run)
    _print(planned, dry_run=dry_run, as_json=as_json)


@tag.command()
@click.argument("references", metavar="REPOSITORY:TAG...", nargs=-1, required=True)
@_dry_run
@json_option
@settings_options
def delete(
    references: tuple[str, ...], data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    """Delete tags; their manifests and other tags stay.

    Of several tags, those that do not exist or are immutable are kept, and the exit status is 1 then. With
    --json, several tags are one line for each repository. `dualreg tag restore` restores a tag. Safe while
    the registry is serving.
    """
    with administration(data, config, changes=True) as admin:
        if len(references) == 1:
            _print_deleted(admin.tags.delete(*_parse(references[0]), dry_run=dry_run), dry_run, as_json)
            return
        kept = 0
        for repository, tags in _by_repository(references):
            found = admin.tags.delete_several(repository, tags, dry_run=dry_run)
            _print_several(found, dry_run, as_json)
            kept += len(found.kept)
    if kept:
        raise SystemExit(1)


def _by_repository(references: Sequence[str]) -> Iterator[tuple[RepositoryName, tuple[Tag, ...]]]:
    """Yield the tags that are named by repository, as many as are deleted at once."""
    named = dict[RepositoryName, list[Tag]]()
    for repository, name in map(_parse, references):
        named.setdefault(repository, []).append(name)
    for repository, tags in named.items():
        yield from ((repository, tuple(batch)) for batch in batches(tags, TAGS_AT_ONCE))


def _print_deleted(found: DeletedTag, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001 -- two options
    if as_json:
        names = {"repository": found.repository, "tag": found.tag}
        echo_json(names | {"digest": found.digest, "dry_run": dry_run})
        return
    verb = "Would delete" if dry_run else "Deleted"
    echo(f"{verb} {found.repository}:{found.tag}, which pointed at {found.digest}.")


def _print_several(found: DeletedTags, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001 -- two options
    if as_json:
        echo_json(members(found) | {"dry_run": dry_run}, indent=None)
        return
    for each in found.deleted:
        _print_deleted(each, dry_run, as_json)
    for kept in found.kept:
        echo(f"{'Would keep' if dry_run else 'Kept'} {found.repository}:{kept.tag}: {kept.reason}", err=True)
    if found.deleted:
        amount = "too much to add it up" if found.own is None else sized(found.own)
        alone = f"alone {'need' if dry_run else 'needed'} {amount}"
        echo(f"{counted(len(found.deleted), 'tag')} of {found.repository}, which {alone}.")


@tag.command()
@click.argument("reference", metavar="REPOSITORY[:TAG]")
@_dry_run
@json_option
@settings_options
def forget(reference: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Forget what a tag, or all tags of a repository, pointed at, and who moved them.

    Tags that exist stay as they are. What was deleted cannot be restored any longer, unless another tag
    pointed at it, and the next collection of garbage frees its space. Safe while the registry is serving.
    """
    with administration(data, config, changes=True) as admin:
        repository, name = _parse(reference) if ":" in reference else (RepositoryName.parse(reference), None)
        gone = admin.tags.forget(repository, name, dry_run=dry_run)
    if as_json:
        echo_json({"repository": repository, "tag": name, **gone._asdict(), "dry_run": dry_run})
        return
    what = f"{counted(gone.moves, 'move')} of {reference} and {counted(gone.manifests, 'deleted manifest')}"
    echo(f"{'Would forget' if dry_run else 'Forgot'} {what}.")


def _parse(reference: str) -> tuple[RepositoryName, Tag]:
    """Return the repository and the tag of ``REPOSITORY:TAG``.

    Raises:
        click.ClickException, RegistryError: it is none.
    """
    name, colon, text = reference.rpartition(":")
    if not colon:
        raise click.ClickException(f"{reference} names no tag; give REPOSITORY:TAG")
    return RepositoryName.parse(name), Tag.parse(text)


def _print(planned: Restoration, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        echo_json({**planned._asdict(), "dry_run": dry_run})
        return
    before = f"it pointed at {planned.old}" if planned.old else "it did not exist"
    verb = "Would point" if dry_run else "Pointed"
    restored = f", which {'would be' if dry_run else 'was'} restored" if planned.deleted else ""
    echo(f"{verb} {planned.repository}:{planned.tag} at {planned.new}{restored}; before, {before}.")
