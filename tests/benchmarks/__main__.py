"""``python -m tests.benchmarks``: measure dualreg beside the reference registry, and print a table."""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.benchmarks import blobs, profile, pushes, reads, v1
from tests.benchmarks.report import Report, progress
from tests.benchmarks.rows import QUICK, Effort, Row, measure
from tests.benchmarks.servers import REFERENCE, Server, has_nginx, versions
from tests.benchmarks.shapes import SHAPES

_AGAINST = re.compile(r"([A-Za-z0-9._-]+)=([^/=]+:[0-9]+)")


def main() -> None:
    """Measure every row on every registry that is installed or named."""
    parser = _parser()
    options = parser.parse_args()
    effort = QUICK if options.quick else SHAPES[options.shape].effort
    if options.auth and options.shape != "disk":
        parser.error("--auth needs --shape disk")
    rows = [row for row in _chosen(effort, options.rows) if row.ask or not options.profile]
    if not rows:
        parser.error(f"no row matches {' or '.join(options.rows)}; the rows are:\n{_titles(effort)}")
    with ExitStack() as stack:
        name = tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder)
        folder = Path(stack.enter_context(name))
        more = {"auth": True} if options.auth else {}
        run = SHAPES[options.shape].servers(folder, dict(options.against), fresh=not options.quick, **more)
        found = stack.enter_context(run)
        result = _profile(rows, found, effort) if options.profile else _compare(rows, found, options, effort)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=main.__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small and short: to see that it works, no more")
    add("--rows", action="append", default=[], metavar="PATTERN", help="only rows like 'GET *tag' or 'V1*'")
    add("--rounds", type=_positive, metavar="N", help="samples of each row and registry; default: 5")
    add("--shape", choices=SHAPES, default="disk", help="what is run; default: all over a folder of its own")
    add("--auth", action="store_true", help="also measure dualreg with auth = accounts, and tokens")
    add("--profile", action="store_true", help="print the processor time of requests by part instead")
    add("--json", type=Path, metavar="FILE", help="also write the figures there")
    add(
        "--against",
        action="append",
        default=[],
        type=_named,
        metavar="NAME=HOST:PORT",
        help="also measure a registry that serves there over plain HTTP, to anonymous clients; "
        "what is pushed to it stays",
    )
    add("--folder", type=Path, help="where to keep the registries; default: the system's temporary folder")
    return parser


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number


def _named(value: str) -> tuple[str, str]:
    match = _AGAINST.fullmatch(value)
    if match is None:
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=HOST:PORT")
    return match[1], match[2]


def _all_rows(effort: Effort) -> list[Row]:
    """Return everything that can be measured, in the table's order."""
    return [row for group in (reads, pushes, blobs, v1) for row in group.rows(effort)]


def _chosen(effort: Effort, patterns: Sequence[str]) -> list[Row]:
    """Return the rows whose title matches one of the patterns, in any case; without patterns, all."""
    return [
        row
        for row in _all_rows(effort)
        if not patterns or any(fnmatchcase(row.title.lower(), pattern.lower()) for pattern in patterns)
    ]


def _titles(effort: Effort) -> str:
    return "\n".join(f"  {row.title}" for row in _all_rows(effort))


def _compare(
    rows: Sequence[Row], found: Sequence[Server], options: argparse.Namespace, effort: Effort
) -> dict[str, Any]:
    """Measure and print the table; return it for machines."""
    rounds = options.rounds or effort.rounds
    lines = []
    for row in rows:
        lines.append(measure(row, found, rounds))
        sys.stderr.write(progress(lines[-1]))
    report = Report(lines, found, rounds, versions(), _missing())
    sys.stdout.write(report.text())
    return report.json()


def _profile(rows: Sequence[Row], found: Sequence[Server], effort: Effort) -> dict[str, Any]:
    """Print the profiles of the rows with one request each; return them."""
    profiles = [*profile.profiles(rows, found, effort.seconds)]
    sys.stdout.write(profile.text(profiles))
    return {"profiles": [asdict(each) for each in profiles]}


def _missing() -> list[str]:
    notes = []
    if not shutil.which(REFERENCE):
        notes.append("docker-registry is not installed: install Debian's package docker-registry.")
    if not has_nginx():
        notes.append("nginx is not measured: install Debian's packages nginx and openssl.")
    return notes


if __name__ == "__main__":
    main()
