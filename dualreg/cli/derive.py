"""``dualreg derive``: make editions of images ahead, and point tags at them, or back."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product, takewhile
from pathlib import Path
from threading import Event
from typing import TextIO, TypedDict, Unpack

import click

from dualreg.catalog.rows import PlacedTag
from dualreg.cli.admin import audited_registry
from dualreg.cli.images import selecting
from dualreg.cli.migrate.options import jobs_option
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json
from dualreg.cli.progress import progress, stoppable
from dualreg.cli.readonly import require_changeable
from dualreg.errors import RegistryError
from dualreg.image.editions import Edition
from dualreg.maintenance.deriving import Derived, Deriving, Moved
from dualreg.maintenance.tagged import Selects, tag_pages
from dualreg.migrate.parallel import in_parallel
from dualreg.registry import Registry

_EXIT_FINDINGS = 1
#: What became of a tag.
_DONE, _SAME, _FAILED, _PLANNED = "done", "same", "failed", "planned"


class _DeriveValues(TypedDict):
    """The values of the options of ``derive`` beyond its output."""

    schema2: bool
    oci: bool
    gzip: bool
    retag: bool
    csv_path: Path | None
    undo: TextIO | None


@click.command()
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1)
@click.option("--schema2", is_flag=True, help="Make editions with Docker's media types and gzip layers.")
@click.option("--oci", is_flag=True, help="Make editions with OCI's media types and gzip layers.")
@click.option("--gzip", is_flag=True, help="Make editions with gzip layers of images with zstd layers.")
@click.option("--retag", is_flag=True, help="Point the tags at the editions; requires --csv.")
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the old and the new digest of each tag to FILE, which must not exist.",
)
@click.option(
    "--undo",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="Point the tags that --retag moved back at the old digests, as FILE of --csv has them.",
)
@jobs_option("Options")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@json_option
@settings_options
def derive(
    patterns: tuple[str, ...], data: Path | None, config: Path | None, *, jobs: int, dry_run: bool,
    as_json: bool, **given: Unpack[_DeriveValues],
) -> None:  # fmt: skip
    """Make editions of tagged images before clients ask for them.

    A PATTERN selects tags whose REPOSITORY[:TAG] matches. An edition is what clients get that cannot read an
    image as it is stored. With --json, each tag is one line.

    Exit status: 0 if every edition was made, or is not needed, 1 otherwise.
    """
    editions, selects = _editions(patterns, given, dry_run=dry_run), selecting(patterns)
    report, retag, undo = _Report(as_json=as_json), given["retag"], given["undo"]
    with audited_registry(data, config) as (registry, settings, record), stoppable() as stop:
        if not dry_run:
            require_changeable(settings)
        deriving = Deriving(registry, dry_run, retag)
        if undo:
            _undo(deriving, undo, report, stop)
        else:
            with _writing(given["csv_path"]) as written:
                work = _Work(deriving, editions, written, retag, stop, report)
                work.run(registry, selects, jobs)
        if (retag or undo) and not dry_run:
            record("derive --undo" if undo else "derive --retag", tags=report.counts[_DONE])
    report.end(stopped=stop.is_set())


def _editions(patterns: Sequence[str], given: _DeriveValues, *, dry_run: bool) -> Sequence[Edition]:
    """Return the editions that are wanted; none with ``--undo``.

    Raises:
        click.UsageError: the options contradict each other.
    """
    flags = {Edition.SCHEMA2: given["schema2"], Edition.OCI: given["oci"], Edition.GZIP: given["gzip"]}
    editions = [edition for edition, is_wanted in flags.items() if is_wanted]
    retag, path = given["retag"], given["csv_path"]
    problem = ""
    if given["undo"]:
        if patterns or editions or retag or path:
            problem = "--undo can only be combined with --dry-run and --json"
    elif not (patterns and editions):
        problem = "give a PATTERN, and at least one of --schema2, --oci and --gzip"
    elif retag and len(editions) > 1:
        problem = "--retag requires exactly one of --schema2, --oci and --gzip"
    elif retag and not (path or dry_run):
        problem = "--retag requires --csv FILE, by which --undo FILE points the tags back"
    elif path and dry_run:
        problem = "--csv cannot be combined with --dry-run"
    if problem:
        raise click.UsageError(problem)
    return editions


class _Report:
    """What became of the tags, which is printed at once; of tags that need nothing, only the number is."""

    def __init__(self, *, as_json: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._as_json = as_json

    def add(self, name: str, status: str, reason: str = "", **facts: object) -> None:
        """Add a tag; *facts* are its edition, and its digests if they are known."""
        self.counts[status] += 1
        if status == _SAME:
            return
        if self._as_json:
            echo_json({"tag": name, "status": status, "reason": reason, **facts}, indent=None)
            return
        digests = " -> ".join(str(facts[each]) for each in ("old", "new") if facts.get(each))
        echo(f"{name}: {status}: {facts['edition']}: {reason or digests}")

    def end(self, *, stopped: bool) -> None:
        """Print the numbers, and exit with the status that they deserve.

        Raises:
            SystemExit: something is missing.
        """
        if not self._as_json:
            echo(", ".join(f"{count} {status}" for status, count in self.counts.items()) or "no tags")
        if stopped or self.counts[_FAILED]:
            raise SystemExit(_EXIT_FINDINGS)


@dataclass(frozen=True, slots=True)
class _Moves:
    """The file of ``--csv``: a row for each tag with an edition, on disk before the tag is moved."""

    file: TextIO

    def write(self, *moved: Moved) -> None:
        """Add rows, durably."""
        csv.writer(self.file, lineterminator="\n").writerows(moved)
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def _writing(path: Path | None) -> Iterator[_Moves | None]:
    """Create the file of ``--csv`` for the block; None: there is none.

    Raises:
        click.ClickException: it exists, or cannot be created.
    """
    try:
        opened = path.open("x", encoding="utf-8", newline="") if path else nullcontext()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    with opened as file:
        if file:
            csv.writer(file, lineterminator="\n").writerow(Moved._fields)
        yield _Moves(file) if file else None


@dataclass(frozen=True, slots=True)
class _Work:
    """Makes the editions of selected tags.

    Attributes:
        written: Where moves are written; None: nowhere.
        retag: Whether to make them.
        stop: Set from outside to stop early.
    """

    deriving: Deriving
    editions: Sequence[Edition]
    written: _Moves | None
    retag: bool
    stop: Event
    report: _Report

    def run(self, registry: Registry, selects: Selects, jobs: int) -> None:
        """Make them, *jobs* at a time."""
        count = sum(map(len, tag_pages(registry, selects))) * len(self.editions)
        with progress("editions", count) as advance:
            for tags in tag_pages(registry, selects):
                for derived in in_parallel(self._derive, product(tags, self.editions), jobs):
                    if derived:
                        self._finish(derived)
                    advance(1, 0)

    def _derive(self, wanted: tuple[PlacedTag, Edition]) -> Derived | None:
        return None if self.stop.is_set() else self.deriving.derive(*wanted)

    def _finish(self, derived: Derived) -> None:
        """Report an edition, and point its tag at it, if that is wanted."""
        old, reason = derived.placed.row.digest, derived.reason
        if derived.is_same:
            self.report.add(derived.name, _SAME)
            return
        if derived.new:
            moved = Moved.of(derived, derived.new)
            if self.written:
                self.written.write(moved)
            reason = self.deriving.move(moved) if self.retag else ""
        status = _FAILED if reason else _DONE if derived.new else _PLANNED
        self.report.add(derived.name, status, reason, edition=derived.edition, old=old, new=derived.new)


def _undo(deriving: Deriving, file: TextIO, report: _Report, stop: Event) -> None:
    """Point tags back, as a file of ``--csv`` has them.

    Raises:
        click.ClickException: it is no such file; nothing was changed.
    """
    try:
        moves = [Moved.parse(row) for row in csv.DictReader(file)]
    except (RegistryError, KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise click.ClickException(f"{file.name} is not a file of derive --csv: {error}") from error
    with progress("tags", len(moves)) as advance:
        for moved in takewhile(lambda _: not stop.is_set(), moves):
            back = moved.back()
            reason = "" if deriving.dry_run else deriving.move(back)
            status = _FAILED if reason else _PLANNED if deriving.dry_run else _DONE
            report.add(moved.name, status, reason, edition=moved.edition, old=back.old, new=back.new)
            advance(1, 0)
