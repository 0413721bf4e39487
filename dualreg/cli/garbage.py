"""``dualreg gc``: garbage, collected while serving."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from dualreg.assembly import catalog_of, writes_of
from dualreg.catalog.clock import utc_now
from dualreg.catalog.leading import Duty, lead
from dualreg.cli.admin import audited_registry
from dualreg.cli.background import end_with
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import counted, echo, echo_json, minute, table
from dualreg.cli.paced import paced
from dualreg.cli.readonly import require_changeable
from dualreg.maintenance.gc import Collected, Collection
from dualreg.registry import Registry
from dualreg.registry.kept import Keeping
from dualreg.settings import Settings
from dualreg.settings.values import format_duration

#: By how much clocks may always differ.
_DIFFERENCE = timedelta(minutes=5)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@click.option("--full", is_flag=True, help="Look at everything; later collections delete what it finds.")
@click.option("--scheduled", is_flag=True, hidden=True, help="Run for the server, in gc_window.")
@json_option
@settings_options
def gc(
    data: Path | None, config: Path | None, *, dry_run: bool, full: bool, scheduled: bool, as_json: bool
) -> None:
    """Delete what nothing uses.

    That is idle uploads, blobs that nothing names, V1 images without a tag, images of upstreams that their
    options keep and keep_size leave no room for, and, as the setting gc_untagged says, manifests without a
    tag. What becomes unused stays for the time that gc_grace gives. Safe while the registry is serving, which
    does the same every gc_interval.
    """
    if full and dry_run:
        raise click.UsageError("--full only notes what later collections delete; use it without --dry-run")
    if scheduled:
        end_with(os.getppid())
    with (
        audited_registry(data, config, alone=True, announce=not scheduled) as (registry, settings, record),
        _turn(registry, settings) if scheduled else nullcontext(True) as is_due,  # noqa: FBT003 -- a value
    ):
        if not is_due:
            return
        if not (dry_run or scheduled):
            require_changeable(settings)
        window = settings.gc_window if scheduled else ""
        pace = paced(settings, writes_of(settings, catalog_of(registry)), window=window, dry_run=dry_run)
        chosen = (settings.gc_empty_repositories, _keeping(settings))
        result = Collection(registry, dry_run, *chosen, pace=pace).run(full=full)
        deleted = {"discarded": result.discarded, "blobs": result.blobs, "bytes": result.bytes}
        for image in () if dry_run else result.expired:
            record("expire", repository=image.repository, image=str(image.digest), used=image.used_at)
        if not dry_run and any((*deleted.values(), *result.repositories)):
            record("gc", **deleted)
        if not (result.complete or scheduled):
            require_changeable(settings)
    if as_json:
        repositories = {name: released._asdict() for name, released in result.repositories.items()}
        expired = [each._asdict() for each in result.expired]
        echo_json(asdict(result) | {"repositories": repositories, "expired": expired})
    elif not scheduled:
        _print(result, settings, full=full, dry_run=dry_run)


def _keeping(settings: Settings) -> dict[str, dict[str, Keeping]]:
    """Return how long images of upstreams stay, by URL and prefix: several may have the same URL."""
    found = dict[str, dict[str, Keeping]]()
    for pattern, each in settings.upstreams.items():
        keeping = Keeping(each.keep, each.keep_size or None)
        found.setdefault(each.url, {})[pattern.removesuffix("*")] = keeping
    return found


@contextmanager
def _turn(registry: Registry, settings: Settings) -> Iterator[bool]:
    """Collect for all instances in the block; yield False if another one does, or did within the interval.

    Raises:
        LeadLost: in the block, by the next transaction after another instance has taken over.
    """
    with lead(catalog_of(registry), Duty.COLLECTION) as led:
        if led is None or _are_clocks_wrong(registry, settings):
            yield False
            return
        with led.fenced():
            began, is_due = registry.now(), registry.collections.is_due(settings.gc_interval)
            yield is_due
            if is_due:
                registry.collections.note_end(began)


def _are_clocks_wrong(registry: Registry, settings: Settings) -> bool:
    """Return whether the clock of the database or that of this machine is wrong, so that ages are, too."""
    difference = abs(registry.now() - utc_now())
    is_wrong = difference > max(settings.gc_grace / 2, _DIFFERENCE)
    if is_wrong:
        text = "no garbage is collected: the clocks of this machine and of the database differ by"
        echo(f"{text} {difference.total_seconds():.0f} seconds", err=True)
    return is_wrong


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
    if full or result.repositories:
        grace = format_duration(settings.gc_grace)
        echo(f"Blobs that no repository uses any longer are deleted after {grace} (gc_grace).")
