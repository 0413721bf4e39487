"""``dualreg repository``: whole repositories."""

from itertools import chain
from pathlib import Path

import click

from dualreg.catalog.rows import Origin
from dualreg.cli.admin import audited_registry, prepared_registry
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import counted, echo, records
from dualreg.cli.paging import tag_pages
from dualreg.cli.readonly import require_changeable
from dualreg.errors import RegistryError
from dualreg.image.names import RepositoryName


@click.group()
def repository() -> None:
    """Manage repositories."""


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
