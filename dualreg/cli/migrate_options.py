"""What the migration commands have in common: the source, and the choice of its tags."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from dualreg.cli.options import Command, environment
from dualreg.migrate.plan import Choice, Library, read_mapping
from dualreg.migrate.sources.v1_config import storage_path
from dualreg.migrate.sources.v1_tree import NoSource, V1Tree
from dualreg.migrate.survey import Survey, survey

#: What every source of this sort begins with.
_V1_TREE = "v1-tree:"


class Fatal(click.ClickException):
    """Something without which nothing can be done; the command ends with 2."""

    exit_code = 2


def look_through(source: str, flavor: str) -> Survey:
    """Return what the tree that *source* names holds.

    Raises:
        Fatal: there is none, or it cannot be read.
    """
    if not source.startswith(_V1_TREE):
        raise Fatal(f"{source} is no source: v1-tree:PATH")
    try:
        path = Path(source.removeprefix(_V1_TREE))
        root = storage_path(path, flavor, environment()) if path.is_file() else path
        return survey(V1Tree.open(root))
    except (NoSource, OSError) as error:
        raise Fatal(str(error)) from error


def jobs_option(command: Command) -> Command:
    """Add ``--jobs``."""
    jobs = click.option(
        "--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 2, help="How many at a time."
    )
    return jobs(command)


def choice_options(command: Command) -> Command:
    """Add what chooses and names tags, and ``--flavor``."""
    for option in (
        click.option("--flavor", default="dev", help="Of the old registry's configuration."),
        click.option("--include", multiple=True, metavar="GLOB", help="Only these REPOSITORY:TAG."),
        click.option("--exclude", multiple=True, metavar="GLOB", help="Not these REPOSITORY:TAG."),
        click.option("--since", type=click.DateTime(), help="Only tags pushed then or later, in UTC."),
        click.option("--latest", type=click.IntRange(1), help="Only so many tags of each repository."),
        click.option("--library", type=click.Choice([str(each) for each in Library]), default="strip",
                     show_default=True, help="What library/x is called here."),
        click.option("--map", "mapping", type=click.File(), help="File of OLD NEW names."),
    ):  # fmt: skip
        command = option(command)
    return command


def choose(
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    since: datetime | None,
    latest: int | None,
    library: str,
    mapping: TextIO | None,
) -> Choice:
    """Return what the options of ``choice_options`` say.

    Raises:
        click.ClickException: the mapping makes no sense.
    """
    try:
        names = read_mapping(mapping) if mapping else {}
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    at = since and since.replace(tzinfo=UTC)
    return Choice(tuple(include), tuple(exclude), at, latest, Library(library), names)
