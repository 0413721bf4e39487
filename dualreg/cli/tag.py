"""``dualreg tag``: tags, what they pointed at, and where they point."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from dualreg.catalog.moves import HistoryPlace, HistoryRow
from dualreg.catalog.rows import TagRow
from dualreg.catalog.sizes import TagSize
from dualreg.cli.admin import Record, audited_registry, prepared_registry
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, counted, echo, echo_json
from dualreg.cli.paging import pages, tag_pages
from dualreg.cli.readonly import require_changeable
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, parse_reference
from dualreg.registry import Registry
from dualreg.registry.history import Restoration
from dualreg.registry.pages import Page
from dualreg.settings import Settings

_Row = TypeVar("_Row")
_dry_run = click.option("--dry-run", is_flag=True, help="Only print what would be changed.")


@click.group()
def tag() -> None:
    """Manage tags."""


@tag.command("list")
@click.argument("repository")
@click.option("--newest", is_flag=True, help="List the tag that was pushed last first, not by name.")
@click.option("--prefix", default="", help="List only tags that begin with PREFIX.")
@click.option("--limit", type=click.IntRange(1), help="List no more than so many.")
@json_option
@settings_options
def list_tags(
    repository: str, data: Path | None, config: Path | None, *,
    newest: bool, prefix: str, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """List the tags of REPOSITORY with digest, origin, times, and sizes.

    The origin is the API over which the tag was pushed. BYTES is the size of all that a tag needs; OWN is the
    part that nothing else needs, and the rest is SHARED. With --json, each tag is one line.
    """
    columns = Columns("TAG", "DIGEST", "ORIGIN", "PUSHED", "PULLED", "BYTES", "OWN", "SHARED")
    with _reading(data, config) as registry:
        name = RepositoryName.parse(repository)
        listed = tag_pages(registry, name, prefix=prefix, newest=newest, limit=limit)
        found = (_with_sizes(registry, name, rows) for rows in listed)
        count = _show(found, columns, _tag_cells, _tag_members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'tag')}.")


def _show(
    found: Iterator[Sequence[_Row]],
    columns: Columns,
    cells: Callable[[_Row], Sequence[str]],
    members: Callable[[_Row], dict[str, object]],
    *,
    as_json: bool,
) -> int:
    """Print rows as they are read; return how many there are."""
    count = 0
    for rows in found:
        count += len(rows)
        for row in rows if as_json else ():
            echo_json(members(row), indent=None)
        if not as_json:
            columns.add([cells(row) for row in rows])
    return count


def _with_sizes(
    registry: Registry, repository: RepositoryName, rows: Sequence[TagRow]
) -> Sequence[tuple[TagRow, TagSize]]:
    """Return tags with what they need; one that was deleted meanwhile needs nothing any longer."""
    sizes = registry.usage.sizes(repository, rows)
    return [(row, sizes.get(row.digest, TagSize(0, 0))) for row in rows]


def _tag_cells(listed: tuple[TagRow, TagSize]) -> Sequence[str]:
    row, (size, own) = listed
    pulled = _second(row.pulled_at) if row.pulled_at else "never"
    sizes = map(str, (size, own, size - own))
    return row.name, str(row.digest), row.origin, _second(row.pushed_at), pulled, *sizes


def _tag_members(listed: tuple[TagRow, TagSize]) -> dict[str, object]:
    row, (size, own) = listed
    names = ("name", "digest", "media_type", "size", "pushed_at", "pulled_at", "origin")
    sizes = {"bytes": size, "own": own, "shared": size - own}
    return {name: getattr(row, name) for name in names} | sizes


@tag.command()
@click.argument("reference", metavar="REPOSITORY:TAG")
@click.option("--limit", type=click.IntRange(1), help="Show no more than so many moves.")
@json_option
@settings_options
def history(
    reference: str, data: Path | None, config: Path | None, *, limit: int | None, as_json: bool
) -> None:
    """Show what a tag pointed at, and who moved it, the newest move first.

    VIA is the API (v1 or v2), or command, import, upstream or follower. WHO is an account, a command, or the
    source or registry that the image came from. With --json, each move is one line.
    """
    columns = Columns("AT", "VIA", "WHO", "POINTS AT")
    with _reading(data, config) as registry:
        found = _moves(registry, *_parse(reference), limit)
        count = _show(found, columns, _move_cells, _move_members, as_json=as_json)
    if not as_json:
        echo(f"{counted(count, 'move')}." if count else f"{reference} has no history.")


def _moves(
    registry: Registry, repository: RepositoryName, name: Tag, limit: int | None
) -> Iterator[Sequence[HistoryRow]]:
    """Yield the moves of a tag in pages."""

    def read(size: int, end: HistoryRow | None) -> Page[HistoryRow]:
        after = HistoryPlace(end.at, end.id) if end else None
        return registry.history.page(repository, name, limit=size, after=after)

    return pages(read, limit)


def _move_cells(row: HistoryRow) -> Sequence[str]:
    what = str(row.new) if row.new else "deleted"
    return _second(row.at), row.api, row.actor or "-", what


def _move_members(row: HistoryRow) -> dict[str, object]:
    facts = row._asdict()
    del facts["id"]
    return facts


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
    nothing. Safe while the registry is serving.
    """
    if to and at:
        raise click.UsageError("give --to or --at, not both")
    with _changing(data, config) as (registry, settings, record):
        repository, name = _parse(reference)
        digest = Digest.parse(to) if to else None
        planned = registry.history.restoration(repository, name, to=digest, at=_time(at) if at else None)
        if not dry_run:
            require_changeable(settings)
            _restore(registry, planned, record, "tag restore")
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
    with _changing(data, config) as (registry, settings, record):
        repository, name = _parse(reference)
        row = registry.manifests.peek(repository, parse_reference(target))
        if row is None:
            raise click.ClickException(f"there is no {target} in {repository}")
        planned = registry.history.restoration(repository, name, to=row.digest)
        if not dry_run:
            require_changeable(settings)
            _restore(registry, planned, record, "tag set")
    _print(planned, dry_run=dry_run, as_json=as_json)


@tag.command()
@click.argument("reference", metavar="REPOSITORY:TAG")
@_dry_run
@json_option
@settings_options
def delete(reference: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Delete a tag; its manifest and other tags stay.

    `dualreg tag restore` restores it. Safe while the registry is serving.
    """
    with _changing(data, config) as (registry, settings, record):
        repository, name = _parse(reference)
        row = registry.manifests.peek(repository, name)
        if row is None:
            raise click.ClickException(f"there is no tag {name} in {repository}")
        if not dry_run:
            require_changeable(settings)
            registry.tags.delete(repository, name)
            record("tag delete", repository=repository, tag=name, digest=str(row.digest))
    if as_json:
        echo_json({"repository": repository, "tag": name, "digest": row.digest, "dry_run": dry_run})
        return
    echo(f"{'Would delete' if dry_run else 'Deleted'} {repository}:{name}, which pointed at {row.digest}.")


@contextmanager
def _reading(data: Path | None, config: Path | None) -> Iterator[Registry]:
    """Open the registry for a block.

    Raises:
        click.ClickException: it cannot be opened, or a request of the block is refused.
    """
    try:
        with prepared_registry(data, config, alone=True) as (registry, _):
            yield registry
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _changing(data: Path | None, config: Path | None) -> Iterator[tuple[Registry, Settings, Record]]:
    """Open the registry for a block that changes it; raises as ``_reading``."""
    try:
        with audited_registry(data, config) as opened:
            yield opened
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


def _parse(reference: str) -> tuple[RepositoryName, Tag]:
    """Return the repository and the tag of ``REPOSITORY:TAG``.

    Raises:
        click.ClickException, RegistryError: it is none.
    """
    name, colon, text = reference.rpartition(":")
    if not colon:
        raise click.ClickException(f"{reference} names no tag; give REPOSITORY:TAG")
    return RepositoryName.parse(name), Tag.parse(text)


def _time(text: str) -> datetime:
    """Return a time; one without an offset is local.

    Raises:
        click.ClickException: it is none.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.ClickException(f"{text} is not a time; give one such as 2026-01-31T12:00Z") from error


def _restore(registry: Registry, planned: Restoration, record: Record, command: str) -> None:
    """Restore a tag as planned, and record it.

    Raises:
        RegistryError: it is refused.
    """
    registry.require_own(planned.repository)
    registry.history.restore(planned)
    facts = {"repository": planned.repository, "tag": planned.tag}
    record(command, **facts, digest=str(planned.new), before=planned.old and str(planned.old))


def _print(planned: Restoration, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        echo_json({**planned._asdict(), "dry_run": dry_run})
        return
    before = f"it pointed at {planned.old}" if planned.old else "it did not exist"
    verb = "Would point" if dry_run else "Pointed"
    echo(f"{verb} {planned.repository}:{planned.tag} at {planned.new}; before, {before}.")


def _second(at: datetime) -> str:
    """Return an instant as people read it, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
