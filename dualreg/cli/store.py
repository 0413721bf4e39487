"""``dualreg store``: where the bytes of the registry are."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypedDict, Unpack

import click

from dualreg.assembly import open_catalog
from dualreg.auth import sealed
from dualreg.auth.sealed import Sealed
from dualreg.catalog.copying import measure
from dualreg.catalog.database import Catalog
from dualreg.cli.admin import audited, prepare_or_fail
from dualreg.cli.copied import print_amount, print_copied
from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import echo
from dualreg.cli.progress import progress, stoppable
from dualreg.maintenance.blob_copy import JOBS, BlobCopy, Copied
from dualreg.maintenance.expected_links import ExpectedLinks
from dualreg.maintenance.fsck.documents import Documents
from dualreg.maintenance.store_copy.copy import StoreCopied, StoreCopy
from dualreg.maintenance.store_copy.links import LinkCopy
from dualreg.messages import counted
from dualreg.migrate.transports import is_own_store
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.base import keeps
from dualreg.storage.moving import MovingStore
from dualreg.stores import place_of

#: Repositories whose link files are written at once: each needs a connection to the database.
_LINK_JOBS = 4
#: Blobs that are copied at once at most.
_MOST_JOBS = 64


class _Values(TypedDict):
    """The values of options of ``store copy``."""

    jobs: int
    verify: bool


@click.group()
def store() -> None:
    """Manage the store."""


@store.command(cls=MigrateCommand)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--jobs",
    type=click.IntRange(1, _MOST_JOBS),
    default=JOBS,
    show_default=True,
    help="Copy this many blobs at once.",
)
@click.option("--verify", is_flag=True, help="Read all blobs of TO, and replace damaged ones.")
@click.option("--dry-run", is_flag=True, help="Only print what would be copied.")
@json_option
@settings_options
def copy(
    source: str,
    target: str,
    data: Path | None,
    config: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
    **given: Unpack[_Values],
) -> None:
    """Copy the content of the registry from one store to another while it is serving.

    FROM and TO are written as the setting store: file:///PATH or s3://BUCKET/PREFIX. Blobs are read, verified
    and copied if TO lacks them. Link files are written from the catalog. A copy that was interrupted goes on
    when the command is run again, and a repeated one copies only what is new. Nothing is deleted from FROM.

    To move without an interruption, let the registry use both stores, by the settings store and
    store_fallback, until all is copied. TO must be empty, or have been copied to before, unless it is one of
    these.

    Exits with 1 if blobs are missing in TO, which are listed, and with 2 on failure.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    prepare_or_fail(settings, create=False)
    with closing(open_catalog(settings)) as catalog, stoppable(quiet=as_json) as stop:
        work = _Work(settings, *_located(settings, source, target), catalog, stop, quiet=as_json)
        work.made.require_usable(sealed.NAME)
        work.require_no_source()
        copied = work.plan(**given) if dry_run else work.copy(**given)
        if stop.is_set():
            raise Fatal("stopped; run the command again to go on")
    print_copied(copied, as_json=as_json)
    if not as_json:
        print_amount(copied, dry_run=dry_run)
        if isinstance(copied, StoreCopied):
            echo(f"Wrote {counted(copied.links, 'link file')} and removed {copied.removed}.")
            _print_next(settings, work, copied)
    raise SystemExit(1 if copied.missing else 0)


def _located(settings: Settings, source: str, target: str) -> tuple[str, str]:
    """Return the URLs of two stores, as ``open_store`` takes them.

    Raises:
        Fatal: they are one.
    """
    urls = tuple(settings.located(url, waiting=2 * _MOST_JOBS) for url in (source, target))
    if place_of(urls[0]) == place_of(urls[1]):
        raise Fatal("FROM and TO are the same store")
    return urls[0], urls[1]


@dataclass
class _Work:
    """What the command works with.

    Attributes:
        source, target: URLs.
    """

    settings: Settings
    source: str
    target: str
    catalog: Catalog
    stop: Event
    quiet: bool

    def __post_init__(self) -> None:
        """Open both stores."""
        self.stores = open_store(self.source), open_store(self.target)
        used = map(place_of, self.settings.store_urls)
        self.made = StoreCopy(self.catalog, *self.stores, is_own=self.place in used)

    @property
    def place(self) -> tuple[str, ...]:
        """Where the target is."""
        return place_of(self.target)

    def require_no_source(self) -> None:
        """Check that no images are imported on demand from the target, as link files without rows go.

        Raises:
            Fatal: they are.
        """
        source = self.settings.legacy_source
        if source and is_own_store(source, partial(keeps, self.stores[1])):
            raise Fatal(
                f"images of TO may not be imported yet; import all of {source}, and remove legacy_source"
            )

    def _copying(self, given: _Values) -> BlobCopy:
        verify, jobs = given["verify"], given["jobs"]
        return BlobCopy(*self.stores, verify=verify, verify_links=True, jobs=jobs, stop=self.stop)

    def plan(self, **given: Unpack[_Values]) -> Copied:
        """Return what would be copied."""
        return self._copying(given).plan(self.catalog)

    def copy(self, **given: Unpack[_Values]) -> StoreCopied:
        """Copy everything, showing progress unless quiet; the result is incomplete if it was stopped.

        Raises:
            Fatal: the copy of accounts, permissions and keys cannot be written.
        """
        with audited(self.settings) as record:
            self.made.begin()
            copying = self._copying(given)
            with progress("blobs", *measure(self.catalog), quiet=self.quiet) as copying.advance:
                copied = self.made.copy_blobs(copying)
            if not self.stop.is_set():
                self._copy_links(copied, given["jobs"])
            if not Sealed(self.catalog, self.stores[1]).catch_up():
                raise Fatal(f"cannot write {sealed.NAME} to {self.target}; the log says why")
            if not self.stop.is_set():
                self.made.conclude(copied)
            facts = {"added": copied.added, "missing": len(copied.missing)}
            record("store copy", source=place_of(self.source)[0], target=self.place[0], **facts)
        return copied

    def _copy_links(self, copied: StoreCopied, jobs: int) -> None:
        expected = ExpectedLinks(Documents(MovingStore(*self.stores[::-1])))
        links = LinkCopy(self.catalog, self.stores[1], expected, min(jobs, _LINK_JOBS), stop=self.stop)
        with self.catalog.read() as tx:
            count = tx.repositories.count()
        with progress("repositories", count, unit="link files", quiet=self.quiet) as links.advance:
            links.run()
        copied.links, copied.removed = links.written, links.removed


def _print_next(settings: Settings, work: _Work, copied: StoreCopied) -> None:
    """Print what to do next, by which of the stores the registry uses."""
    if place_of(settings.store_url) != work.place:
        echo("Next:  set store to TO and store_fallback to FROM in the configuration of all processes,")
        echo("       restart them, and run this command again")
    elif copied.uploads:
        echo(f"{counted(copied.uploads, 'upload')} in progress in FROM. Keep store_fallback until they have")
        echo("ended, and run this command again.")
    elif not copied.missing and settings.store_fallback:
        echo("Next:  remove store_fallback from the configuration of all processes, and restart them;")
        echo("       nothing uses FROM from then on")
