"""What the migration commands have in common: the source, and the choice of its tags."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from dualreg.cli.failures import Fatal
from dualreg.cli.migrate.hints import CHOOSING
from dualreg.cli.options import Command, environment
from dualreg.migrate.base import Survey
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.names import Library, Names, read_mapping, read_names
from dualreg.migrate.plan import Entry, read_plan
from dualreg.migrate.run import Existing
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.selection import Selection, make_plan, unmatched
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.transports import RemoteCredentials, SourceOptions, shortens_library, survey_source
from dualreg.patterns import check_pattern
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError
from dualreg.settings import Settings

_T = TypeVar("_T")
#: How it shows that an option was given.
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
#: Whatever is wrong with it, which may hold secrets.
_NO_ADDRESS = "--http: not http(s)://HOST[:PORT], without a path or a query; see also --http-user"
#: What a source holds, and the plan for it.
Looked = tuple[Survey, list[Entry]]


def looked_through(
    source: str, given: Mapping[str, Any], *, dated: bool = False, sparse: bool = False
) -> Survey:
    """Return what *source* holds.

    Args:
        given: Values of ``source_options`` and ``jobs_option``, among others.
        dated: Whether dates are wanted, whether or not *given* needs them.
        sparse: Whether indexes may come without all their manifests.

    Raises:
        Fatal: there is no such source, or it cannot be read.
    """
    try:
        return survey_source(
            source,
            SourceOptions(
                given["flavor"],
                given["repository"],
                environment(),
                login(given),
                _scan_options(given, dated=dated, shortened=shortens_library(source)),
                sparse,
            ),
        )
    except (SourceInvalid, OSError) as error:
        raise Fatal(str(error)) from error


def planned(found: Survey, given: Mapping[str, Any]) -> list[Entry]:
    """Return the plan that the values of ``choice_options`` make; say what is not there, or refused."""
    for finding in refused(found):
        click.echo(finding, err=True)
    since: datetime | None = given["since"]
    choice = Selection(
        chosen_names(given, shortened=found.shortens_library),
        since and since.replace(tzinfo=UTC),
        given["latest"],
        given["shard"],
        Library(given["library"] or found.default_library),
        given["mapping"],
        given["untagged"],
    )
    for name in () if given.get("follow") else unmatched(found, choice):
        click.echo(f"no tag or repository there is called {name}", err=True)
    return make_plan(found, choice)


def refused(found: Survey) -> list[Finding]:
    """Return what keeps tags out of every plan: a live registry does not tell what they are."""
    return [finding for finding in found.findings if finding.kind is FindingKind.REFUSED]


def chosen_names(given: Mapping[str, Any], *, shortened: bool = False) -> Names:
    """Return what the values of ``glob_options`` choose."""
    return Names(tuple(given["include"]), tuple(given["exclude"]), given["listed"], shortened)


def looked_and_planned(
    source: str, given: Mapping[str, Any], settings: Settings, plan: Iterable[str] | None = None
) -> Looked:
    """Look through *source*, and make the plan for what is in it now, or read it from *plan*.

    Raises:
        Fatal: there is no such source, or it cannot be read.
        ValueError: the plan makes no sense.
    """
    found = looked_through(source, given, sparse=settings.sparse_indexes)
    return found, read_plan(plan) if plan else planned(found, given)


def check_plan_alone(context: click.Context) -> None:
    """Refuse what chooses tags beside a plan that has chosen them.

    Raises:
        click.UsageError: both are given.
    """
    choosing = {option.name: option.opts[0] for option in context.command.params if option.name in CHOOSING}
    given = [opt for name, opt in choosing.items() if context.get_parameter_source(name or "") in _GIVEN]
    if context.params.get("plan_file") and given:
        raise click.UsageError(f"--plan has chosen already: {', '.join(given)} would do nothing")


def login(given: Mapping[str, Any]) -> RemoteCredentials:
    """Return what the values of ``login_options`` say.

    Raises:
        Fatal: there is a user without a password.
    """
    if given["user"] and not given["password_file"]:
        raise Fatal("--user needs --password-file FILE, or - for the standard input")
    return RemoteCredentials(given["user"] or "", given["password_file"], given["ca"])


def serving(given: Mapping[str, Any]) -> Client | None:
    """Return what speaks to the registry of ``--http``; None: it is not asked.

    Raises:
        Fatal: that is no address of a registry alone, or there is a user without a password.
    """
    url, user, password = given["http"], given["http_user"] or "", given["http_password_file"]
    if user and not password:
        raise Fatal("--http-user needs --http-password-file FILE, or - for the standard input")
    if url is None:
        return None
    try:
        wire, parts = Client(url.rstrip("/"), user, password, given["ca"]), urlsplit(url)
    except RemoteError as error:
        raise Fatal(_NO_ADDRESS) from error
    if parts.path.strip("/") or "?" in url or "#" in url or "@" in url:
        raise Fatal(_NO_ADDRESS)
    return wire


def login_options(command: Command) -> Command:
    """Add how to log in at live registries."""
    return _with(command, (
        click.option("--user", help="To log in with, at a live registry."),
        click.option("--password-file", type=click.File(), callback=first_line, help="Has its password."),
        click.option("--ca", type=click.Path(exists=True), help="Authorities of its certificate, in PEM."),
    ))  # fmt: skip


def jobs_option(command: Command) -> Command:
    """Add ``--jobs``."""
    jobs = click.option(
        "--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 2, help="How many at a time."
    )
    return jobs(command)


def source_options(command: Command) -> Command:
    """Add what it takes to read some sources."""
    return _with(login_options(command), (
        click.option("--flavor", default="dev", envvar="SETTINGS_FLAVOR", show_default=True,
                     help="Of the old registry's configuration."),
        click.option("--repository", default="", help="For images that name none; default: the file's name."),
    ))  # fmt: skip


def glob_options(command: Command) -> Command:
    """Add what chooses tags by their names."""
    return _with(command, (
        click.option("--include", multiple=True, metavar="PATTERN", callback=_patterns,
                     help="Only these REPOSITORY[:TAG]."),
        click.option("--exclude", multiple=True, metavar="PATTERN", callback=_patterns,
                     help="Not these REPOSITORY[:TAG]."),
        click.option("--list", "listed", type=click.File(), callback=_list,
                     help="File of REPOSITORY[:TAG], one in a line: only these."),
    ))  # fmt: skip


def choice_options(command: Command) -> Command:
    """Add what chooses and names tags, and the options of ``source_options``."""
    return _with(source_options(glob_options(command)), (
        click.option("--since", type=click.DateTime(), help="Only tags pushed then or later, in UTC."),
        click.option("--latest", type=click.IntRange(1), help="Only so many tags of each repository."),
        click.option("--shard", metavar="I/N", default="1/1", callback=_shard,
                     help="Only the repositories that are the I-th of N parts."),
        click.option("--library", type=click.Choice([str(each) for each in Library]),
                     help="What library/x is called here; default: strip for V1 sources, else keep."),
        click.option("--map", "mapping", type=click.File(), callback=_mapping, help="File of OLD NEW names."),
        click.option("--untagged", is_flag=True, help="Also what no tag leads to."),
    ))  # fmt: skip


def first_line(_: click.Context, __: click.Parameter, file: TextIO | None) -> str:
    """Return the first line of an option's file, once; empty if there is no such option."""
    return _read(file, lambda opened: opened.readline().rstrip("\r\n")) if file else ""


def _scan_options(given: Mapping[str, Any], *, dated: bool, shortened: bool) -> ScanOptions:
    newer = given.get("follow") or given.get("existing") == Existing.NEWER
    return ScanOptions(
        chosen_names(given, shortened=shortened) if "include" in given else Names(),
        bool(dated or newer or given.get("since") or given.get("latest")),
        trusting=True,
        jobs=given["jobs"],
    )


def _mapping(_: click.Context, __: click.Parameter, file: TextIO | None) -> Mapping[str, str]:
    return _read(file, read_mapping) if file else {}


def _patterns(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(check_pattern, given))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _list(_: click.Context, __: click.Parameter, file: TextIO | None) -> frozenset[str] | None:
    return _read(file, read_names) if file else None


def _read(file: TextIO, reader: Callable[[TextIO], _T]) -> _T:
    try:
        return reader(file)
    except (ValueError, OSError) as error:
        file.close()  # as nobody else does after a failure
        raise Fatal(str(error)) from error


def _shard(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    part, _slash, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{text} is not I/N, such as 1/4")
    return int(part), int(parts)


def _with(command: Command, options: Iterable[Any]) -> Command:
    for option in options:
        command = option(command)
    return command
