"""``dualreg follow``: a copy of another registry's directory, served read-only and kept up to date."""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

import click

from dualreg.assembly import follow_access, open_catalog
from dualreg.catalog.clock import utc_now
from dualreg.catalog.database import Catalog
from dualreg.cli.admin import act_as_command, prepare_or_fail
from dualreg.cli.background import background_growth, background_update, end_with
from dualreg.cli.failures import OUTAGES, reason_of
from dualreg.cli.options import (
    Command,
    announce_registry,
    json_option,
    load_settings,
    settings_options,
    with_options,
)
from dualreg.cli.output import echo, echo_json, minute
from dualreg.cli.progress import progress, stoppable
from dualreg.cli.serve import check_to_serve, run_server, serving_options
from dualreg.maintenance.follow.follower import Follower, Look
from dualreg.maintenance.follow.status import StatusFile
from dualreg.messages import counted
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.followed import FollowedStore

#: Of these times, one is for looking at the copy at most.
_SHARE = 10


def follow_option(command: Command) -> Command:
    """Add ``--follow``."""
    path = click.Path(path_type=Path)
    return with_options(command, click.option("--follow", "tree", type=path, help="Read the copy in PATH."))


@click.group(invoke_without_command=True)
@follow_option
@serving_options
@settings_options
def follow(data: Path | None, config: Path | None, tree: Path | None, **flags: object) -> None:
    """Serve a copy of another registry's directory, read-only.

    The copy may be updated by rsync at any time, and is never written to. A tag is shown when all that it
    needs has arrived. The catalog is in the data directory, which must not be in the copy.

    Every option is also a setting in the configuration file and a variable in the environment
    (DUALREG_FOLLOW, …).
    """
    if name := click.get_current_context().invoked_subcommand:
        if any((data, config, tree, *flags.values())):
            raise click.UsageError(f"give options after {name}")
        return
    settings = _settings(config, data=data, follow=tree, **flags)
    check_to_serve(settings)
    prepare_or_fail(settings)
    _look_first(settings)
    run_server(settings, background_update(settings), background_growth(settings))


@follow.command()
@click.option("--watch", is_flag=True, hidden=True, help="Keep looking until interrupted.")
@click.option("--access", is_flag=True, hidden=True, help="Also copy accounts.")
@click.option("--parent", type=int, hidden=True, help="End with the process of this ID.")
@follow_option
@settings_options
def update(
    data: Path | None,
    config: Path | None,
    *,
    tree: Path | None,
    watch: bool,
    access: bool,
    parent: int | None,
) -> None:
    """Look at the copy now, for example after rsync.

    Exits with 1 if a tag is not shown as the copy has it, because something is missing.
    """
    end_with(parent)
    settings = _settings(config, data=data, follow=tree)
    if not watch:
        announce_registry(settings)
    act_as_command()
    prepare_or_fail(settings)
    with closing(open_catalog(settings)) as catalog, stoppable(quiet=watch) as stop:
        updating = _Updating(settings, catalog, stop, access=access or settings.auth != "none")
        if watch:
            updating.go_on()
        elif updating.once().waiting:
            raise SystemExit(1)


@follow.command()
@json_option
@follow_option
@settings_options
def status(data: Path | None, config: Path | None, tree: Path | None, *, as_json: bool) -> None:
    """Show when the copy was last looked at, and which tags wait for what.

    Exits with 1 if a tag waits, or the last look failed or is long ago.
    """
    settings = _settings(config, data=data, follow=tree)
    found = _read_status(settings)
    late = _is_late(settings, found)
    if as_json:
        echo_json(found | {"late": late})
    else:
        _print_status(found, late=late)
    raise SystemExit(1 if late or found["waiting"] or found["error"] else 0)


def _settings(config: Path | None, **flags: object) -> Settings:
    """Return the settings of a follower.

    Raises:
        click.ClickException: they are not of one.
    """
    settings = load_settings(config, **flags)
    if settings.follow is None:
        raise click.ClickException("which copy? Give --follow, or the setting follow")
    tree, own = settings.follow.resolve(), settings.data.resolve()
    if tree == own or tree in own.parents:
        raise click.ClickException(
            f"the data directory {own} is in the copy, which rsync may change\nGive --data."
        )
    if not tree.is_dir():
        raise click.ClickException(f"{tree}: no such directory")
    return settings


@dataclass
class _Updating:
    """Looks at the copy, and writes what it has found to the file of the status."""

    settings: Settings
    catalog: Catalog
    stop: Event
    access: bool
    _waiting: int = 0

    def __post_init__(self) -> None:
        store = open_store(self.settings.store_url)
        assert isinstance(store, FollowedStore)  # noqa: S101 -- the setting follow is set
        self.store, self._status = store, StatusFile(self.settings.data)
        self.follower = Follower(
            self.catalog, store, self.settings.allows_sparse, self.settings.follow_verify, self.stop
        )

    def once(self) -> Look:
        """Look once.

        Raises:
            OUTAGES: that failed.
            click.ClickException: it was stopped.
        """
        with self._status.locked(self.stop) as mine:
            if mine:
                began = time.monotonic()
                if self.access:
                    follow_access(self.catalog, self.store)
                look = self.follower.look()
                if look.complete:
                    self._status.note(look, at=utc_now(), seconds=time.monotonic() - began)
                    self._report(look)
                    return look
        raise click.ClickException("stopped; run the command again to go on")

    def go_on(self) -> None:
        """Look again and again until that is stopped; what fails is tried again."""
        interval, failed = self.settings.follow_interval.total_seconds(), ""
        while not self.stop.is_set():
            began, reason = time.monotonic(), ""
            try:
                self.once()
            except (*OUTAGES, click.ClickException) as error:
                reason = reason_of(error)
                if reason != failed and not self.stop.is_set():
                    echo(f"cannot update from {self.settings.follow}: {reason}", err=True)
                    self._status.fail(reason)
            failed = reason
            self.stop.wait(max(interval, (time.monotonic() - began) * (_SHARE - 1)))

    def _report(self, look: Look) -> None:
        """Print what a look has changed, if anything."""
        if look.counts["changed"] or len(look.waiting) != self._waiting:
            echo(_summary(look), err=True)
        self._waiting = len(look.waiting)


def _summary(look: Look) -> str:
    counts = look.counts
    changed = counted(counts["changed"], "repository", "repositories")
    return f"follow: {changed} changed; {counted(counts['tags'], 'tag')}, {len(look.waiting)} waiting"


def _look_first(settings: Settings) -> None:
    """Record the whole copy, unless that was done: nothing that it has may seem to be unknown.

    Raises:
        click.ClickException: it was stopped.
    """
    with closing(open_catalog(settings)) as catalog, stoppable() as stop:
        updating = _Updating(settings, catalog, stop, access=False)
        if not updating.follower.has_looked():
            total = sum(1 for _ in updating.store.marks())
            with progress("repositories", total) as advance:
                updating.follower.advance = lambda count: advance(count, 0)
                updating.once()


def _read_status(settings: Settings) -> dict[str, Any]:
    """Return what the last look has found.

    Raises:
        click.ClickException: there was none.
    """
    try:
        return StatusFile(settings.data).read()
    except FileNotFoundError as error:
        raise click.ClickException(
            f"{settings.follow} was not looked at yet; run `dualreg follow`"
        ) from error


def _is_late(settings: Settings, found: Mapping[str, Any]) -> bool:
    """Return whether the last look is longer ago than it should be."""
    usual = max(settings.follow_interval.total_seconds(), float(found["seconds"]) * _SHARE)
    ago = utc_now() - datetime.fromisoformat(found["looked_at"])
    return ago.total_seconds() > 3 * usual + 60


def _print_status(found: Mapping[str, Any], *, late: bool) -> None:
    looked = minute(datetime.fromisoformat(found["looked_at"]))
    echo(
        f"Last look:     {looked}, {found['seconds']:.1f} s{'; is `dualreg follow` running?' if late else ''}"
    )
    for label, key in (("Last change:  ", "changed_at"), ("Newest push:  ", "newest_push")):
        echo(f"{label} {minute(datetime.fromisoformat(found[key])) if found[key] else '-'}")
    repositories = counted(found["repositories"], "repository", "repositories")
    echo(f"Content:       {repositories}, {counted(found['tags'], 'tag')}")
    if found["error"]:
        echo(f"Failed since:  {found['error']}")
    for each in found["waiting"]:
        echo(f"Waiting:       {each['where']}: {each['reason']}")
