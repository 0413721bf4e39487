"""``dualreg gc``: garbage, collected while serving."""

from dataclasses import asdict
from pathlib import Path

import click

from dualreg.assembly import catalog_of, writes_of
from dualreg.catalog.leading import Duty
from dualreg.cli.admin import Record, audited_registry
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import amount, echo, echo_json, minute, table
from dualreg.cli.paced import paced
from dualreg.cli.readonly import require_changeable
from dualreg.cli.turns import Task, run_scheduled
from dualreg.maintenance.gc import Collected, Collection
from dualreg.messages import counted
from dualreg.operations.previews import keeping_of
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.schedules import Timing
from dualreg.settings.values import format_duration


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@click.option("--full", is_flag=True, help="Look at everything; later collections delete what it finds.")
@click.option("--no-undelete", is_flag=True, help="Delete what undelete_grace keeps, too.")
@click.option("--scheduled", is_flag=True, hidden=True, help="Run for the server, in gc_window.")
@json_option
@settings_options
def gc(
    data: Path | None, config: Path | None, *,
    dry_run: bool, full: bool, no_undelete: bool, scheduled: bool, as_json: bool,
) -> None:  # fmt: skip
    """Delete what nothing uses.

    That is idle uploads, blobs that nothing names, V1 images without a tag, images of upstreams that their
    options keep and keep_size leave no room for, and, as the setting gc_untagged says, manifests without a
    tag. What becomes unused stays for the time that gc_grace gives, and what was deleted can be restored for
    the time that undelete_grace gives. Safe while the registry is serving, which does the same every
    gc_interval.
    """
    if full and dry_run:
        raise click.UsageError("--full only notes what later collections delete; use it without --dry-run")
    if scheduled:
        run_scheduled(TASK, data, config)
        return
    with audited_registry(data, config, alone=True) as (registry, settings, record):
        if not dry_run:
            require_changeable(settings)
        result = _collect(registry, settings, record, dry_run=dry_run, full=full, undelete=not no_undelete)
        if not result.complete:
            require_changeable(settings)
    if as_json:
        repositories = {name: released._asdict() for name, released in result.repositories.items()}
        expired = [each._asdict() for each in result.expired]
        echo_json(asdict(result) | {"repositories": repositories, "expired": expired})
    else:
        _print(result, settings, full=full, dry_run=dry_run)


def _collect(
    registry: Registry,
    settings: Settings,
    record: Record,
    window: str = "",
    *,
    dry_run: bool = False,
    full: bool = False,
    undelete: bool = True,
) -> Collected:
    """Collect garbage, and record what was deleted."""
    pace = paced(settings, writes_of(settings, catalog_of(registry)), window=window, dry_run=dry_run)
    chosen = (settings.gc_empty_repositories, keeping_of(settings))
    result = Collection(registry, dry_run, *chosen, undelete=undelete, pace=pace).run(full=full)
    deleted = {"discarded": result.discarded, "blobs": result.blobs, "bytes": result.bytes}
    for image in () if dry_run else result.expired:
        record("expire", repository=image.repository, image=str(image.digest), used=image.used_at)
    if not dry_run and any((*deleted.values(), *result.repositories)):
        record("gc", **deleted)
    return result


def _work(registry: Registry, settings: Settings, record: Record, window: str) -> str:
    """Collect garbage as a task."""
    began = registry.now()
    result = _collect(registry, settings, record, window)
    registry.collections.note_end(began)
    text = f"discarded {counted(result.discarded, 'upload')}, deleted {amount(result.blobs, result.bytes)}"
    return text if result.complete else f"{text}; stopped before the end"


#: The collections of the server. An older version in service at the same time notes only when one began.
TASK = Task(
    "gc",
    Duty.COLLECTION,
    lambda settings: Timing(
        format_duration(settings.gc_interval) if settings.gc_interval else "", settings.gc_window
    ),
    _work,
    is_wanted=lambda registry, settings: registry.collections.is_due(settings.gc_interval),
)


def _print(result: Collected, settings: Settings, *, full: bool, dry_run: bool) -> None:
    table(
        ["REPOSITORY", "MANIFESTS", "V1 IMAGES", "BLOBS", "BYTES"],
        [[name, *map(str, released)] for name, released in sorted(result.repositories.items())],
    )
    verb = "Would delete" if dry_run else "Deleted"
    for image in result.expired:
        seen = minute(image.used_at)
        echo(f"{verb} {image.repository}@{image.digest} of an upstream, last pulled or fetched {seen}.")
    if result.orphans:
        echo(f"Found {counted(result.orphans, 'file')} that the catalog does not know.")
    found = f"{counted(result.idle_uploads, 'idle upload')} and {counted(result.blobs, 'blob')}"
    if dry_run:
        echo(f"Would delete {found} ({result.bytes} bytes) now. Run without --dry-run to delete them.")
    else:
        echo(f"Deleted {found} ({result.bytes} bytes).")
    if result.kept and result.kept_until:
        until = minute(result.kept_until)
        echo(f"Kept for undelete: {counted(result.kept, 'blob')}, {result.kept_bytes} bytes, until {until}.")
    if full or result.repositories:
        grace = format_duration(settings.gc_grace)
        echo(f"Blobs that no repository uses any longer are deleted after {grace} (gc_grace).")
