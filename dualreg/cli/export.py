"""``dualreg export``: copy tags of this registry to another registry or to files."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import TextIO, Unpack

import click

from dualreg.cli.admin import prepared_registry
from dualreg.cli.command import Option
from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.migrate.options import (
    LoginValues,
    NameValues,
    credentials,
    jobs_option,
    login_options,
    name_options,
    selected_names,
)
from dualreg.cli.migrate.output import EXIT_FINDINGS, EXIT_NOTHING, counted_outcomes
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json
from dualreg.cli.progress import Advance, progress, stoppable
from dualreg.image.digest import Digest
from dualreg.messages import counted
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.inventory import read_inventory
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.transports import TargetOptions, open_target
from dualreg.registry import Registry
from dualreg.settings.values import parse_bytes
from dualreg.transports import Use, parse_location

#: The smallest limit of a volume, in bytes.
_LEAST_VOLUME = 1 << 20


class _ExportValues(LoginValues, NameValues):
    """The values of the options of ``export`` beyond its output."""

    link: str
    deep: bool
    convert: str | None
    volume: int
    have: frozenset[Digest]


def _size(_: click.Context, __: click.Parameter, text: str) -> int:
    """Return the size of a volume.

    Raises:
        click.BadParameter: it is malformed, or too small.
    """
    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if 0 < size < _LEAST_VOLUME:
        raise click.BadParameter("expected 1M or more")
    return size


def _blobs(_: click.Context, __: click.Parameter, file: TextIO | None) -> frozenset[Digest]:
    """Return the blobs of an inventory.

    Raises:
        Fatal: it is invalid.
    """
    if file is None:
        return frozenset()
    try:
        return frozenset(read_inventory(file).blobs)
    except (OSError, ValueError) as error:
        file.close()  # click closes it only after a command that began
        raise Fatal(f"--have: {error}") from error


@click.command(cls=MigrateCommand)
@click.argument("target")
@name_options
@partial(login_options, section="Target")
@click.option(
    "--link",
    cls=Option,
    section="Target",
    type=click.Choice([str(mode) for mode in LinkMode]),
    default="auto",
    show_default=True,
    help="Choose how to store files in registry-tree. hard: share them with this registry; auto: share"
    " blocks if the file system can; copy: copy the bytes.",
)
@click.option(
    "--deep",
    cls=Option,
    section="Target",
    is_flag=True,
    help="Read the blobs that the target already has, instead of trusting their sizes.",
)
@click.option(
    "--convert",
    cls=Option,
    section="Target",
    type=click.Choice(["schema1"]),
    help="Write schema 1 as schema 2. Only registry-tree takes schema 1 otherwise.",
)
@click.option(
    "--volume",
    cls=Option,
    section="Volumes",
    default="0",
    callback=_size,
    metavar="SIZE",
    help="Limit each volume to SIZE, such as 4G.  [default: one volume]",
)
@click.option(
    "--have",
    cls=Option,
    section="Volumes",
    type=click.File(),
    metavar="FILE",
    callback=_blobs,
    help="Exclude blobs that the inventory in FILE lists.",
)
@jobs_option("Target")
@click.option("--dry-run", is_flag=True, help="Only print what would be exported.")
@json_option
@settings_options
def export(
    target: str, data: Path | None, config: Path | None, *, jobs: int, dry_run: bool, as_json: bool,
    **given: Unpack[_ExportValues],
) -> None:  # fmt: skip
    """Export tags to another registry or to files.

    A tag is exported with everything that it references, and with its referrers.

    \b
    TARGET is one of:
      registry-tree:PATH     storage of the reference registry
      oci-layout:PATH        OCI image layout
      volumes:PATH           OCI image layout in tar archives, and an inventory
      docker-archive:FILE    input of docker load; - is standard output
      static-tree:PATH       files from which a plain web server serves pulls
      v2+http(s)://HOST[/PREFIX]
                             remote registry

    What the target already has is not sent again.

    Exit status: 0 if every selected tag is exported, 1 if some are, 3 if none is, 2 if the export could not
    start or continue.
    """  # noqa: D301 -- \b makes click keep the lines of a paragraph
    _check_combination(target, given)
    with prepared_registry(data, config, alone=True) as (registry, _):
        entries = [*entries_to_export(registry, selected_names(given))]
        if not entries:
            raise Fatal("no tag is selected; nothing was written")
        with stoppable() as stop:
            options = _target_options(registry, entries, given, stop)
            with closing(open_target(target, options)) as opened:
                if dry_run:
                    _print_selected(entries)
                    return
                with progress("tags", len(entries)) as advance:
                    convert = given["convert"] == "schema1"
                    outcomes = Export(registry, opened, stop, partial(_advance, advance), convert).export_all(
                        entries, jobs
                    )
    _print_result(target, outcomes, as_json=as_json, err=opened.is_stream)


def _check_combination(target: str, given: _ExportValues) -> None:
    """Refuse options of volumes with other targets.

    Raises:
        click.UsageError.
    """
    if (given["volume"] or given["have"]) and not target.startswith("volumes:"):
        raise click.UsageError("--volume and --have require the target volumes:PATH")


def _advance(advance: Advance, outcome: Outcome) -> None:
    advance(1, outcome.read)


def _target_options(
    registry: Registry, entries: Sequence[Entry], given: _ExportValues, stop: Event
) -> TargetOptions:
    return TargetOptions(
        registry,
        [entry.repository for entry in entries],
        stop,
        LinkMode(given["link"]),
        given["deep"],
        credentials(given),
        given["volume"],
        given["have"],
    )


def _print_selected(entries: Sequence[Entry]) -> None:
    for entry in entries:
        echo(entry.name)
    echo(f"{counted(len(entries), 'tag')} would be exported.")


def _print_result(target: str, outcomes: Sequence[Outcome], *, as_json: bool, err: bool) -> None:
    """Print the result, on standard error if *err*, and exit with the status that it deserves.

    Raises:
        SystemExit: a tag is missing: with 1, or with 3 if all are.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    present = counts[Status.DONE] + counts[Status.SAME]
    if as_json:
        tags = [
            {"tag": each.entry.name, "status": each.status, "reason": each.reason, "digest": each.digest}
            for each in outcomes
        ]
        unserved = [{"tag": each.entry.name, "reason": each.note} for each in outcomes if each.note]
        converted = [
            {"tag": each.entry.name, "from": each.converted, "to": each.digest}
            for each in outcomes
            if each.converted
        ]
        echo_json({"counts": counts, "tags": tags, "converted": converted, "unserved": unserved}, err=err)
    else:
        for outcome in outcomes:
            conversion = f"{outcome.converted} converted to {outcome.digest}" if outcome.converted else ""
            if text := outcome.reason or conversion or outcome.note:
                echo(f"{outcome.entry.name}: {outcome.status}: {text}", err=err)
        echo(counted_outcomes(outcomes), err=err)
        if present:
            echo(f"Next:  {parse_location(target, Use.TARGET).next_step}", err=err)
    if counts[Status.FAILED] + counts[Status.STOPPED]:
        raise SystemExit(EXIT_FINDINGS if present else EXIT_NOTHING)
