"""Options of the migration commands: the source, and the selection of its tags."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from typing import TextIO, TypedDict, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from dualreg.assembly import manifest_rules
from dualreg.cli.command import Option
from dualreg.cli.failures import Fatal
from dualreg.cli.migrate.output import SELECTION_OPTIONS
from dualreg.cli.options import Command, environment, with_options
from dualreg.cli.output import echo
from dualreg.cli.progress import few_collections, interruptible
from dualreg.migrate.base import Survey
from dualreg.migrate.follow import Planned
from dualreg.migrate.names import Library, Names, read_mapping, read_names
from dualreg.migrate.plan import Entry, read_plan
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.selection import Selection, make_plan, skip_owned, skip_pulled, unmatched
from dualreg.migrate.transports import RemoteCredentials, SourceOptions, shortens_library, survey_source
from dualreg.patterns import check_pattern
from dualreg.registry import Registry
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError
from dualreg.settings import Settings
from dualreg.settings.values import parse_duration

_T = TypeVar("_T")
#: Where the value of an option comes from if it was given.
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
#: The URL is not repeated: it may contain a password.
_INVALID_URL = "--http: invalid URL; expected http(s)://HOST[:PORT], without path or query (see --http-user)"


class LoginValues(TypedDict):
    """The values of ``login_options``."""

    user: str | None
    password_file: str
    ca: str | None
    token_servers: tuple[str, ...]
    redirect_hosts: tuple[str, ...]


class SourceValues(LoginValues):
    """The values of ``source_options`` and ``jobs_option``."""

    flavor: str
    repository: str
    jobs: int


class NameValues(TypedDict):
    """The values of ``name_options``."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    listed: frozenset[str] | None


class SelectionValues(NameValues):
    """The values of ``selection_options``."""

    since: datetime | None
    latest: int | None
    shard: tuple[int, int]
    untagged: bool
    library: str | None
    mapping: Mapping[str, str]


class ImportValues(SourceValues, SelectionValues):
    """The values of all options that say what is imported."""


class HttpValues(LoginValues):
    """The values of the options that name a registry to compare with; the rest is that of the source."""

    http: str | None
    http_user: str | None
    http_password_file: str


def survey(
    source: str, given: SourceValues, settings: Settings, names: Names | None = None, *, dated: bool = False
) -> Survey:
    """Return what *source* contains.

    Args:
        settings: They say which manifests this registry takes.
        names: The only names that are wanted; None: all.
        dated: Find out when tags were pushed.

    Raises:
        Fatal: the options contradict each other.
        SourceInvalid: there is no such source.
        OSError: it cannot be read.
        Interrupted: the command was asked to end.
    """
    options = SourceOptions(
        given["flavor"],
        given["repository"],
        environment(),
        credentials(given),
        ScanOptions(names or Names(), dated, trusting=True, jobs=given["jobs"]),
        manifest_rules(settings),
    )
    with interruptible(), few_collections():
        return survey_source(source, options)


def plan_of(found: Survey, given: SelectionValues, *, quiet: bool = False) -> list[Entry]:
    """Return the plan that the selection makes; warn of names that match nothing, unless *quiet*."""
    since = given["since"]
    selection = Selection(
        selected_names(given, shortened=found.shortens_library),
        since and since.replace(tzinfo=UTC),
        given["latest"],
        given["shard"],
        Library(given["library"] or found.default_library),
        given["mapping"],
        given["untagged"],
    )
    for name in () if quiet else unmatched(found, selection):
        echo(f'no tag or repository "{name}" in the source', err=True)
    return make_plan(found, selection)


def selected_names(given: NameValues, *, shortened: bool = False) -> Names:
    """Return the names that the values of ``name_options`` select."""
    return Names(given["include"], given["exclude"], given["listed"], shortened)


def survey_and_plan(
    source: str,
    given: ImportValues,
    settings: Settings,
    plan: Iterable[str] | None = None,
    *,
    dated: bool = False,
    quiet: bool = False,
) -> Planned:
    """Return what *source* contains now, and the plan for it: the lines of *plan*, or a new one.

    What would come under the prefix of an upstream is skipped.

    Args:
        dated: Find out when tags were pushed, whether or not they are selected by that.
        quiet: As for ``plan_of``.

    Raises:
        Fatal: the options contradict each other.
        SourceInvalid: there is no such source.
        OSError: it cannot be read.
        ValueError: the plan is invalid.
    """
    names = selected_names(given, shortened=shortens_library(source))
    dated = dated or bool(given["since"] or given["latest"])
    found = survey(source, given, settings, names, dated=dated)
    entries = read_plan(plan) if plan else plan_of(found, given, quiet=quiet)
    return found, skip_owned(entries, settings.owned_names)


def without_pulled(planned: Planned, settings: Settings, registry: Registry | None) -> Planned:
    """Return a plan that skips what would come to a repository which an upstream of all names has.

    Args:
        registry: Where it would be imported; None: it does not exist yet.
    """
    if registry is None or not settings.pulls_any_name:
        return planned
    found, entries = planned
    return found, skip_pulled(entries, registry.repositories.upstream)


def next_without_pulled(
    next_plan: Callable[[], Planned], settings: Settings, registry: Registry | None
) -> Planned:
    """Return the next plan, as ``without_pulled``."""
    return without_pulled(next_plan(), settings, registry)


def check_plan_exclusive(context: click.Context) -> None:
    """Refuse options that select tags beside ``--plan``, which has selected them.

    Raises:
        click.UsageError: both are given.
    """
    selecting = {each.name: each.opts[0] for each in context.command.params if each.name in SELECTION_OPTIONS}
    given = [opt for name, opt in selecting.items() if context.get_parameter_source(name or "") in _GIVEN]
    if context.params.get("plan_file") and given:
        raise click.UsageError(f"{', '.join(given)} cannot be combined with --plan")


def credentials(given: LoginValues) -> RemoteCredentials:
    """Return the values of ``login_options``.

    Raises:
        Fatal: there is a user without a password.
    """
    if given["user"] and not given["password_file"]:
        raise Fatal("--user requires --password-file FILE (- for standard input)")
    return _credentials(given, given["user"] or "", given["password_file"])


def http_client(given: HttpValues) -> Client | None:
    """Return a client of the registry that ``--http`` names; None without that option.

    Raises:
        Fatal: the URL is invalid, or there is a user without a password.
    """
    url, user, password = given["http"], given["http_user"] or "", given["http_password_file"]
    if user and not password:
        raise Fatal("--http-user requires --http-password-file FILE (- for standard input)")
    if url is None:
        return None
    try:
        logging_in = _credentials(given, user, password)
        client, parts = logging_in.client(url.rstrip("/"), repeat_failed=False), urlsplit(url)
    except RemoteError as error:
        raise Fatal(_INVALID_URL) from error
    if parts.path.strip("/") or "?" in url or "#" in url or "@" in url:
        raise Fatal(_INVALID_URL)
    return client


def login_options(command: Command, section: str = "Source") -> Command:
    """Add how to log in to remote registries."""
    option = partial(click.option, cls=Option, section=section)
    return with_options(
        command,
        option("--user", help="Log in to the remote registry as this user."),
        password_file_option("--password-file", section, "Read the password from FILE."),
        option(
            "--ca", type=click.Path(exists=True), help="Trust the certificate authorities in PATH, in PEM."
        ),
        option(
            "--token-server",
            "token_servers",
            multiple=True,
            callback=_hosts,
            metavar="HOST",
            help="Trust the token server on HOST with the password, if the registry names it.",
        ),
        option(
            "--allow-redirect",
            "redirect_hosts",
            multiple=True,
            callback=_hosts,
            metavar="HOST",
            help="Accept redirects to HOST even if its address is not public.",
        ),
    )


def password_file_option(name: str, section: str, text: str) -> Callable[[Command], Command]:
    """Return an option for a file whose first line is a password."""
    return click.option(
        name, cls=Option, section=section, type=click.File(), metavar="FILE", callback=_first_line, help=text
    )


def jobs_option(section: str) -> Callable[[Command], Command]:
    """Return ``--jobs``."""
    return click.option(
        "--jobs", cls=Option, section=section, type=click.IntRange(1, 256), default=os.cpu_count() or 2,
        help="Run this many jobs in parallel.",
    )  # fmt: skip


def source_options(command: Command) -> Command:
    """Add how to read the source."""
    option = partial(click.option, cls=Option, section="Source")
    return with_options(
        command,
        option("--flavor", default="dev", envvar="SETTINGS_FLAVOR", show_default=True,
               help="Use this flavor of the old registry's configuration."),
        option("--repository", default="",
               help="Use this repository for images without a name.  [default: the name of the file]"),
        login_options,
    )  # fmt: skip


def name_options(command: Command, section: str = "Selection") -> Command:
    """Add the selection of tags by their names."""
    option = partial(click.option, cls=Option, section=section)
    name, listed = "REPOSITORY[:TAG]", click.File()
    return with_options(
        command,
        option("--include", multiple=True, metavar="PATTERN", callback=_patterns,
               help=f"Select only tags whose {name} matches PATTERN."),
        option("--exclude", multiple=True, metavar="PATTERN", callback=_patterns,
               help=f"Exclude tags whose {name} matches PATTERN."),
        option("--list", "listed", type=listed, metavar="FILE", callback=_names,
               help=f"Select only the names in FILE, one {name} per line."),
    )  # fmt: skip


def selection_options(command: Command) -> Command:
    """Add the selection of tags, and what they are called in this registry."""
    option = partial(click.option, cls=Option, section="Selection")
    naming = partial(click.option, cls=Option, section="Names")
    return with_options(
        command,
        name_options,
        option("--since", type=click.DateTime(), metavar="DATE",
               help="Select only tags pushed on DATE or later: 2016-01-31, or 2016-01-31T12:00:00 (UTC)."),
        option("--latest", type=click.IntRange(1), metavar="N",
               help="Select only the N latest tags of each repository."),
        option("--shard", metavar="I/N", default="1/1", callback=_shard,
               help="Select only part I of N of the repositories."),
        option("--untagged", is_flag=True, help="Also import untagged images."),
        naming("--library", type=click.Choice([str(each) for each in Library]),
               help="Choose the name of library/x: x (strip), library/x (keep), or both."
               "  [default: strip for V1 sources, otherwise keep]"),
        naming("--map", "mapping", type=click.File(), metavar="FILE", callback=_mapping,
               help="Rename as FILE says, one OLD NEW pair per line."),
    )  # fmt: skip


def duration(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    """Return the value of an option that takes a duration.

    Raises:
        click.BadParameter: it is invalid.
    """
    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _credentials(given: LoginValues, user: str, password: str) -> RemoteCredentials:
    return RemoteCredentials(user, password, given["ca"], given["token_servers"], given["redirect_hosts"])


def _first_line(_: click.Context, __: click.Parameter, file: TextIO | None) -> str:
    return _read(file, lambda opened: opened.readline().rstrip("\r\n")) if file else ""


def _mapping(_: click.Context, __: click.Parameter, file: TextIO | None) -> Mapping[str, str]:
    return _read(file, read_mapping) if file else {}


def _hosts(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return hosts as ``endpoint_of`` returns them.

    Raises:
        click.BadParameter: one is more than a host, and would never be that of a server.
    """
    for each in given:
        if not re.fullmatch(r"[^:/@]+", each) and not _is_address(each):
            text = f'invalid host "{each}"; expected a name or an address, without scheme and port'
            raise click.BadParameter(text)
    return tuple(map(str.lower, given))


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _patterns(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(check_pattern, given))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _names(_: click.Context, __: click.Parameter, file: TextIO | None) -> frozenset[str] | None:
    return _read(file, read_names) if file else None


def _read(file: TextIO, reader: Callable[[TextIO], _T]) -> _T:
    try:
        return reader(file)
    except (ValueError, OSError) as error:
        file.close()  # click closes it only after a command that began
        raise Fatal(str(error)) from error


def _shard(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    part, _slash, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f'invalid shard "{text}"; expected I/N, such as 1/4')
    return int(part), int(parts)
