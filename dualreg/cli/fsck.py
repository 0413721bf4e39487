"""``dualreg fsck``: the store and the catalog checked against each other, and repaired."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import Unpack

import click

from dualreg.assembly import open_catalog
from dualreg.catalog.checks import Stale
from dualreg.catalog.database import Catalog
from dualreg.cli.admin import audited_registry
from dualreg.cli.command import Option
from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.migrate.options import LoginValues, credentials, login_options
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json
from dualreg.cli.progress import progress, stoppable
from dualreg.errors import ManifestUnverified, NameInvalid
from dualreg.image.digest import Digest
from dualreg.image.jws import verified_payload
from dualreg.image.names import RepositoryName
from dualreg.maintenance.fsck.check import Budget, Check
from dualreg.maintenance.fsck.findings import Finding
from dualreg.maintenance.fsck.repair import Fetch, Repair, fetch_nothing
from dualreg.messages import counted
from dualreg.remote.challenge import pulling
from dualreg.remote.client import Client, as_stored
from dualreg.remote.endpoint import RemoteError
from dualreg.settings.values import parse_bytes, parse_duration
from dualreg.storage import open_store
from dualreg.storage.base import read_chunks
from dualreg.transports import Location, LocationInvalid, Use, parse_location

_OK = 200
_REPAIR = "Repair"


def _bytes(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Parse a number of bytes such as ``500M``."""
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _location(_: click.Context, __: click.Parameter, text: str | None) -> Location | None:
    try:
        found = None if text is None else parse_location(text, Use.SOURCE)
    except LocationInvalid as error:
        raise click.BadParameter(str(error)) from error
    if found and found.transport.name != "v2":
        raise click.BadParameter("expected v2+https://HOST[/REPOSITORY] or v2+http://HOST[/REPOSITORY]")
    return found


class _Values(LoginValues):
    """The values of the options of ``fsck``."""

    read: bool
    limit_bytes: int | None
    limit_time: float | None
    rate: int | None
    repair: bool
    source: Location | None


@click.command(cls=MigrateCommand)
@click.argument("repositories", metavar="[REPOSITORY]...", nargs=-1)
@click.option("--read", is_flag=True, help="Read all blobs, those that were read longest ago first.")
@click.option("--limit-bytes", callback=_bytes, metavar="BYTES", help="Read at most BYTES, such as 500G.")
@click.option("--limit-time", callback=_seconds, metavar="TIME", help="Read for at most TIME, such as 2h.")
@click.option("--rate", callback=_bytes, metavar="BYTES", help="Read at most BYTES in a second, such as 50M.")
@click.option("--repair", is_flag=True, cls=Option, section=_REPAIR, help="Repair what can be repaired.")
@click.option(
    "--from",
    "source",
    callback=_location,
    cls=Option,
    section=_REPAIR,
    metavar="v2+https://HOST",
    help="Fetch lost blobs from another registry, from repositories of the same names.",
)
@partial(login_options, section=_REPAIR)
@json_option
@settings_options
def fsck(
    data: Path | None,
    config: Path | None,
    *,
    repositories: tuple[str, ...],
    as_json: bool,
    **given: Unpack[_Values],
) -> None:
    """Check the store and the catalog against each other.

    Safe while the registry is serving. Without --read, files are compared by size, and manifests are read.
    With --read, every blob is read; a check that was stopped, or reached a limit, goes on with the others.

    Each finding names the tags that it hurts, and the generations of clients. With --json, each is one line.

    Exits with 1 if something that was checked is damaged and was not repaired, and with 2 on failure.
    """
    if given["source"] and not given["repair"]:
        raise click.UsageError("--from requires --repair")
    limits = (given["limit_bytes"], given["limit_time"], given["rate"])
    if limits != (None, None, None) and not given["read"]:
        raise click.UsageError("--limit-bytes, --limit-time and --rate require --read")
    names = _names(repositories)
    fetch = _fetch_from(given["source"], given) if given["source"] else fetch_nothing
    opened = audited_registry(data, config, changes=given["repair"], alone=True)
    with opened as (registry, settings, record):
        found, store = Counter[bool](), open_store(*settings.store_urls)
        with closing(open_catalog(settings)) as catalog, stoppable(quiet=as_json) as stop:
            _require(catalog, names)
            mend = Repair(registry, catalog, fetch) if given["repair"] else None
            check = Check(catalog, store, registry.integrity, names, given["read"], Budget(*limits), mend)
            for finding, repaired in _shown(check, stop, quiet=as_json):
                found[repaired] += 1
                _print(finding, repaired=repaired, as_json=as_json)
        if found[True]:
            record("fsck", repaired=found[True])
    _conclude(found, check.unread, as_json=as_json)
    if stop.is_set():
        raise Fatal("stopped before everything was checked; run the command again")
    raise SystemExit(1 if found[False] else 0)


def _names(repositories: Iterable[str]) -> tuple[RepositoryName, ...]:
    try:
        return tuple(map(RepositoryName.parse, repositories))
    except NameInvalid as error:
        raise Fatal(str(error)) from error


def _require(catalog: Catalog, names: Iterable[RepositoryName]) -> None:
    for name in names:
        with catalog.read() as tx:
            known = tx.repositories.find(name)
        if known is None:
            raise Fatal(f"there is no repository {name}")


def _shown(check: Check, stop: Event, *, quiet: bool) -> Iterator[tuple[Finding, bool]]:
    """Run the check with its progress shown, if it reads all blobs."""
    check.stop = stop
    with check.catalog.read() as tx:
        total = tx.checks.total(Stale(check.catalog.now(), check.repositories)) if check.read else 0
    with progress("blobs", total, quiet=quiet or not check.read) as advance:
        check.advance = advance
        yield from check.run()


def _print(finding: Finding, *, repaired: bool, as_json: bool) -> None:
    if as_json:
        document = asdict(finding) | {"digest": finding.digest, "repaired": repaired}
        echo_json({key: value for key, value in document.items() if key != "detail"}, indent=None)
        return
    hurts = finding.tags or finding.repositories
    clients = f" for {', '.join(finding.clients)} clients" if finding.clients else ""
    harm = f"; hurts {', '.join(hurts)}{clients}" if hurts else ""
    echo(f"{finding.kind}: {finding.where}: {finding.text}{harm}{'; repaired' if repaired else ''}")


def _conclude(found: Counter[bool], unread: int, *, as_json: bool) -> None:
    if as_json:
        echo_json({"findings": found.total(), "repaired": found[True], "unread": unread}, indent=None)
        return
    if found:
        echo(f"{counted(found.total(), 'finding')}, {found[True]} repaired.", err=True)
    else:
        echo("No damage found.")
    if unread:
        echo(f"The limit left {counted(unread, 'blob')} unread. The next run goes on with them.", err=True)


def _fetch_from(source: Location, login: LoginValues) -> Fetch:
    """Return what fetches blobs and manifests from the registry at *source*."""
    client, path = credentials(login).connect(source, Use.SOURCE)

    def fetch(repository: RepositoryName, digest: Digest) -> Iterable[bytes] | None:
        name = path or repository
        try:
            return read_chunks(client.stream(f"/v2/{name}/blobs/{digest}", scope=pulling(name)))
        except RemoteError:
            return _manifest(client, name, digest)

    return fetch


def _manifest(client: Client, name: str, digest: Digest) -> Iterable[bytes] | None:
    """Return a manifest, without the signatures of schema 1; None if the registry does not have it."""
    try:
        path = f"/v2/{name}/manifests/{digest}"
        response = client.request("GET", path, as_stored(), scope=pulling(name))
    except RemoteError as error:
        echo(str(error), err=True)
        return None
    if response.status != _OK:
        return None
    if Digest.of(response.body, digest.algorithm) == digest:
        return [response.body]
    try:
        return [verified_payload(response.body)]
    except ManifestUnverified:
        return None
