"""``dualreg backup`` and ``dualreg restore``: copies of a registry in use, and registries made of them."""

import shlex
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from dualreg.assembly import build_registry, open_catalog, prepare
from dualreg.auth import sealed
from dualreg.catalog.copying import measure
from dualreg.catalog.database import is_absent
from dualreg.catalog.integrity import file_of
from dualreg.cli.admin import audited, prepare_or_fail
from dualreg.cli.copied import print_amount, print_copied
from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import amount, echo, minute
from dualreg.cli.progress import progress, stoppable
from dualreg.maintenance.backup.backup import Backup
from dualreg.maintenance.backup.folder import BackupFolder, Marker
from dualreg.maintenance.backup.restore import (
    NotEmpty,
    conclude,
    is_unfinished,
    load_catalog,
    move_catalog,
    require_empty_database,
    require_empty_store,
    take_catalog,
)
from dualreg.maintenance.blob_copy import BlobCopy, Copied
from dualreg.registry import collections
from dualreg.settings import Settings
from dualreg.storage import open_store

_copy_option = click.option(
    "--copy", "always_copy", is_flag=True, help="Copy bytes, also where hard links are possible."
)


@click.command(cls=MigrateCommand)
@click.argument("folder", metavar="DIRECTORY", type=click.Path(path_type=Path))
@_copy_option
@click.option("--verify", is_flag=True, help="Read all blobs of the backup, and replace damaged ones.")
@click.option("--dry-run", is_flag=True, help="Only print what would be copied and deleted.")
@json_option
@settings_options
def backup(
    folder: Path, data: Path | None, config: Path | None, *,
    always_copy: bool, verify: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Back up the registry to DIRECTORY while it is serving.

    The backup contains the catalog as it is at one instant, with accounts and keys, and all blobs that it
    lists. Blobs that DIRECTORY has are not copied again. On the file system of the store, they are hard
    links. A backup that was interrupted goes on when the command is run again, and is only used once it is
    complete; until then, an earlier backup in DIRECTORY stays valid.

    Exits with 1 if the registry itself lacks blobs, which are listed, and with 2 on failure.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    prepare_or_fail(settings, create=False)
    if settings.store_folder.resolve() in folder.resolve().parents:
        raise Fatal(f"{folder} is in the store; choose another directory")
    target, store = BackupFolder(folder), open_store(*settings.store_urls)
    with closing(open_catalog(settings)) as catalog, stoppable(quiet=as_json) as stop:
        made = Backup(catalog, settings.journals, target)
        copying = BlobCopy(store, target.store, not always_copy, verify, stop=stop)
        if dry_run:
            with TemporaryDirectory() as scratch:
                copied, deleted = made.plan(copying, Path(scratch) / "catalog.sqlite3")
        else:
            with progress("blobs", *measure(catalog), quiet=as_json) as copying.advance:
                copied, deleted = made.run(copying)
    if stop.is_set():
        raise Fatal("stopped; run the command again to go on")
    print_copied(copied, as_json=as_json, deleted=deleted)
    if not as_json:
        print_amount(copied, dry_run=dry_run)
        if not dry_run:
            command = shlex.join(["dualreg", "restore", str(folder.absolute()), "--data"])
            echo(f"To restore:  {command} NEW-DIRECTORY")
    raise SystemExit(1 if copied.missing else 0)


@click.command(cls=MigrateCommand)
@click.argument("folder", metavar="DIRECTORY", type=click.Path(path_type=Path))
@_copy_option
@json_option
@settings_options
def restore(
    folder: Path, data: Path | None, config: Path | None, *, always_copy: bool, as_json: bool
) -> None:  # fmt: skip
    """Restore the registry from the backup in DIRECTORY.

    The configured store and database must be empty. All blobs are read and verified. A restore that was
    interrupted goes on when the command is run again; until it is complete, the registry is not served.

    Exits with 1 if the backup lacks blobs or has damaged ones, which are listed, and with 2 on failure.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    source = BackupFolder(folder)
    with source.reading() as marker:
        _require_empty(settings, source)
        with audited(settings) as record:
            _restore_catalog(settings, source, marker)
            copied = _restore_content(settings, source, share=not always_copy, quiet=as_json)
            record("restore", backup=str(folder.absolute()), as_of=marker.at, missing=len(copied.missing))
    prepare(settings)
    print_copied(copied, as_json=as_json)
    if not as_json:
        as_of = minute(datetime.fromisoformat(marker.at))
        echo(f"Restored {amount(copied.blobs, copied.bytes)} and the catalog of {as_of}.")
        echo("Next:  dualreg serve, with the same settings")
    raise SystemExit(1 if copied.missing else 0)


def _require_empty(settings: Settings, source: BackupFolder) -> None:
    """Check that a restore destroys nothing, unless an earlier one was not finished.

    Raises:
        NotEmpty.
    """
    if source.path.resolve() in settings.store_folder.resolve().parents:
        raise NotEmpty(f"{settings.store_folder} is in the backup; restore to another directory")
    file = file_of(settings.database_url)
    if not is_absent(settings.database_url):
        with closing(open_catalog(settings)) as catalog:
            if is_unfinished(catalog):
                return
            if file:
                raise NotEmpty(f"{file} exists; restore to another directory, or move it away")
            require_empty_database(catalog)
    require_empty_store(open_store(*settings.store_urls), sealed.NAME, collections.NAME)


def _restore_catalog(settings: Settings, source: BackupFolder, marker: Marker) -> None:
    file = file_of(settings.database_url)
    path = (file.parent if file else settings.data.absolute()) / "catalog.restored.sqlite3"
    take_catalog(source, marker, path)
    if file:
        move_catalog(path, file)
        return
    with closing(open_catalog(settings)) as catalog:
        load_catalog(path, catalog)


def _restore_content(settings: Settings, source: BackupFolder, *, share: bool, quiet: bool) -> Copied:
    """Restore everything but the catalog, showing progress unless *quiet*.

    Raises:
        Fatal: it was stopped.
    """
    store = open_store(*settings.store_urls)
    with closing(open_catalog(settings)) as catalog, stoppable(quiet=quiet) as stop:
        linking = build_registry(catalog, store, settings).linking
        copying = BlobCopy(source.store, store, share, verify=True, stop=stop)
        with progress("blobs", *measure(catalog), quiet=quiet) as copying.advance:
            copied = copying.run(catalog)
        with progress("repositories", linking.count(), quiet=quiet) as advance:
            if not stop.is_set():
                linking.complete(lambda _: advance(1, 0))
        if stop.is_set():
            raise Fatal("stopped; run the command again to go on")
        conclude(source, catalog, settings.journals)
    return copied
