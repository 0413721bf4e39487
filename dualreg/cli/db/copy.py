"""``dualreg db copy``: the catalog in another database, of the same kind or the other."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import click

from dualreg.assembly import open_catalog, writes_of
from dualreg.catalog.copying import Summary
from dualreg.catalog.database import Catalog, is_absent
from dualreg.cli.admin import audited, prepare_or_fail
from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_json, table
from dualreg.cli.progress import progress, stoppable
from dualreg.maintenance.catalog_copy import CatalogCopy
from dualreg.messages import counted, mask
from dualreg.settings import Settings


@click.command(cls=MigrateCommand)
@click.argument("url", metavar="URL")
@click.option("--dry-run", is_flag=True, help="Only print what would be copied.")
@json_option
@settings_options
def copy(url: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Copy the catalog to the database at URL.

    URL is written as the setting database: sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE. The
    database must be empty. A copy that was interrupted goes on when the command is run again; until it is
    complete, the database is not served. All rows are compared at the end.

    The registry must be read-only, since the copy would lack what is pushed meanwhile. The bytes in the
    store stay where they are.

    Exits with 2 on failure.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    prepare_or_fail(settings, create=False)
    if dry_run:
        _print_plan(_plan(settings, url), url, as_json=as_json)
        return
    with _readonly(settings), audited(settings) as record:
        copied = _copy(settings, url, quiet=as_json)
        rows = sum(each.rows for each in copied.values())
        record("db copy", to=mask(url), rows=rows)
    if as_json:
        echo_json({"rows": rows, "tables": copied})
        return
    echo(f"Copied {counted(rows, 'row')} of {counted(len(copied), 'table')}, and compared them.")
    echo("Next:  set database to this URL in the configuration of all processes, and restart them;")
    echo("       then run `dualreg readonly off`")


@contextmanager
def _readonly(settings: Settings) -> Iterator[None]:
    """Check that the registry is read-only, from the beginning of the block to its end.

    Raises:
        Fatal: it is not.
    """
    writes = writes_of(settings)
    if (marked := writes.marked()) is None:
        raise Fatal(
            "the registry accepts changes, which the copy would lack\n"
            "Run `dualreg readonly on --reason TEXT` first."
        )
    yield
    if writes.marked() != marked:
        raise Fatal("the registry was not read-only all the time; the copy may lack changes")


def _plan(settings: Settings, url: str) -> Mapping[str, int]:
    """Return how many rows would be copied; an SQLite file that does not exist is not created."""
    with closing(open_catalog(settings)) as source:
        made = CatalogCopy(source, source)
        if not is_absent(url):
            with closing(Catalog(url)) as target:
                CatalogCopy(source, target).require_usable()
        return made.plan()


def _print_plan(rows: Mapping[str, int], url: str, *, as_json: bool) -> None:
    if as_json:
        echo_json({"rows": sum(rows.values()), "tables": {name: {"rows": rows[name]} for name in rows}})
        return
    table(["TABLE", "ROWS"], [[name, f"{count:,}"] for name, count in rows.items()])
    echo(f"Would copy {counted(sum(rows.values()), 'row')} to {url}.")


def _copy(settings: Settings, url: str, *, quiet: bool) -> Mapping[str, Summary]:
    """Copy and compare, showing progress unless *quiet*; return what was copied, by table.

    Raises:
        Fatal: it was stopped, or the copy differs.
    """
    with closing(open_catalog(settings)) as source, closing(Catalog(url)) as target:
        made = CatalogCopy(source, target)
        total = sum(made.plan().values())
        with (
            stoppable(quiet=quiet) as stop,
            progress("rows copied", total, quiet=quiet) as advance,
        ):
            complete = made.copy(advance, stop)
        if not complete:
            raise Fatal("stopped; run the command again to go on")
        with progress("rows compared", 2 * total, quiet=quiet) as advance:
            return made.verify(advance)
