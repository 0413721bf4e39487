"""``dualreg db rebuild``: a lost catalog, made again from the store."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from dualreg.assembly import build_registry, open_catalog
from dualreg.auth.sealed import NAME, Sealed, SealedInvalid
from dualreg.catalog.database import Catalog
from dualreg.catalog.integrity import find_damage, move_aside
from dualreg.catalog.upgrade import upgrade as upgrade_catalog
from dualreg.cli.admin import audited, require_registry
from dualreg.cli.failures import FAILURES, Fatal, reason_of
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_json, table
from dualreg.cli.progress import progress, stoppable
from dualreg.maintenance.rebuild import CatalogNotEmpty, Rebuild
from dualreg.maintenance.rebuilt import COUNTED, Damage, Rebuilt
from dualreg.messages import counted
from dualreg.registry.recognition import Recognition
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.names import Names
from dualreg.webhooks.mark import mark


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be recorded, and what is damaged.")
@click.option("--replace", is_flag=True, help="Delete the content that the catalog has, and start over.")
@json_option
@settings_options
def rebuild(data: Path | None, config: Path | None, *, dry_run: bool, replace: bool, as_json: bool) -> None:
    """Make the catalog from the store.

    For a catalog that is lost or malformed. Stop the server first. A rebuild that was interrupted goes on
    where it stopped. Accounts, permissions and keys are restored from the file access.json in the store.

    Exits with 1 if something in the store is damaged, which is then left out, and with 2 on failure.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    try:
        _require_store(settings)
        with nullcontext() if dry_run else audited(settings) as record:
            with _catalog_to_fill(settings, dry_run=dry_run) as catalog:
                result = _rebuild(settings, catalog, dry_run=dry_run, replace=replace, quiet=as_json)
            if record:
                record("db rebuild", complete=result.complete, findings=len(result.findings))
    except FAILURES as error:
        raise Fatal(reason_of(error)) from error
    _print(result, as_json=as_json)
    if not result.complete:
        raise Fatal("stopped; run the command again to go on")
    raise SystemExit(1 if result.findings else 0)


def _require_store(settings: Settings) -> None:
    """Check that there is a registry: something to make a catalog from, or a catalog already.

    Raises:
        click.ClickException: there is none.
    """
    store = open_store(*settings.store_urls)
    if Names(store).is_empty() and store.read_private(NAME) is None:
        require_registry(settings)


@contextmanager
def _catalog_to_fill(settings: Settings, *, dry_run: bool) -> Iterator[Catalog]:
    """Open the catalog for the block, with its tables; for a dry run, a temporary one."""
    with TemporaryDirectory() as folder:
        if dry_run:
            catalog = Catalog(f"sqlite:///{folder}/catalog.sqlite3")
        elif damage := find_damage(settings.database_url, whole=True):
            echo(f"The catalog is malformed: {damage}", err=True)
            echo(f"Moved it to {move_aside(settings.database_url)}.", err=True)
        if not dry_run:
            catalog = open_catalog(settings)
        with closing(catalog):
            upgrade_catalog(catalog)
            yield catalog


def _rebuild(settings: Settings, catalog: Catalog, *, dry_run: bool, replace: bool, quiet: bool) -> Rebuilt:
    """Rebuild the catalog, showing progress unless *quiet*.

    Raises:
        Fatal: the catalog is not empty.
    """
    store = open_store(*settings.store_urls)
    names = Names(store)
    total = sum(isinstance(each, str) for each in names.repositories())
    with (
        stoppable(quiet=quiet) as stop,
        progress("repositories", total, unit="link files", quiet=quiet) as advance,
    ):
        registry = build_registry(catalog, store, settings)
        recognition = None if dry_run else Recognition(registry.bridge)
        rebuild = Rebuild(catalog, store, recognition, advance, settings.allows_sparse, stop)
        try:
            rebuild.begin(replace=replace)
        except CatalogNotEmpty as error:
            raise Fatal(
                "the catalog is not empty\nTo make it anew from the store, run with --replace."
            ) from error
        try:
            Sealed(catalog, store).restore()
        except SealedInvalid as error:
            rebuild.find(Damage.ACCESS, NAME, str(error))
        result = rebuild.run()
    if not dry_run:
        mark(settings.data)
    return result


def _print(result: Rebuilt, *, as_json: bool) -> None:
    counts = {what: result.counts[what] for what in COUNTED}
    if as_json:
        findings = [asdict(finding) for finding in result.findings]
        echo_json({"complete": result.complete, **counts, "findings": findings})
        return
    for finding in result.findings:
        echo(f"{finding.kind}: {finding.where}: {finding.text}", err=True)
    table([what.upper().replace("_", " ") for what in COUNTED], [[str(count) for count in counts.values()]])
    if result.findings:
        echo(f"{counted(len(result.findings), 'finding')}, listed above.")
