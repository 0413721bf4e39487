"""``python -m tests.benchmarks``: measure dualreg beside the reference registry, and print a table."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.operations import QUICK, Effort, Operation, Workload, has_wrk
from tests.benchmarks.report import Line, Report
from tests.benchmarks.servers import Server, dualreg, reference, versions

#: Seconds of one operation after which no further round of it is begun: a run stays below three minutes.
_PATIENCE = 14


def main() -> None:
    """Run every operation against every registry that is installed."""
    options = _options()
    workload = Workload(QUICK if options.quick else Effort())
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder))
        )
        ours, theirs = stack.enter_context(dualreg(folder)), stack.enter_context(reference(folder))
        servers = [ours] if theirs is None else [ours, theirs]
        for server in servers:
            workload.prepare(server)
        lines = [
            _line(operation, servers, workload.effort.rounds)
            for operation in workload.operations()
            if has_wrk() or not operation.needs_wrk
        ]
    report = Report(lines, versions(), len(os.sched_getaffinity(0)), _notes(theirs))
    sys.stdout.write(report.text())
    if options.json:
        options.json.write_text(json.dumps(report.json(), indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="small and short: to see that it works, no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where to keep the registries meanwhile; default: the system's temporary folder",
    )
    return parser.parse_args()


def _line(operation: Operation, servers: Sequence[Server], rounds: int) -> Line:
    """Measure in turns (A B A B …), so that what disturbs the machine disturbs all alike."""
    competing = [server for server in servers if server.speaks_v1 or not operation.v1]
    samples: dict[str, list[float]] = {server.name: [] for server in competing}
    deadline = time.perf_counter() + _PATIENCE
    for taken in range(rounds):
        if taken and time.perf_counter() > deadline:
            break
        for server in competing:
            samples[server.name].append(operation.measure(server))
    sys.stderr.write(f"{operation.title}: done\n")
    return Line(operation, {name: operation.best(taken) for name, taken in samples.items()})


def _notes(theirs: Server | None) -> list[str]:
    notes = []
    if theirs is None:
        notes.append("No reference registry to compare with: install Debian's package docker-registry.")
    if not has_wrk():
        notes.append("No wrk: GET rates were left out; install Debian's package wrk.")
    return notes


if __name__ == "__main__":
    main()
