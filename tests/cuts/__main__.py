"""``python -m tests.cuts``: kill and cut the power everywhere, and print what was tried and what was lost."""

import argparse
import os
import sys
import tempfile
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from tests.cuts.record import record
from tests.cuts.run import KINDS, Result, cuts, run
from tests.cuts.stories import STORIES


def main() -> None:
    """Run stories, and exit with 1 if a promise was broken."""
    options = _options()
    each, broken = -(-options.cuts // len(options.story)), 0
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for story in options.story:
            result = _cut(story, each, options, pool)
            lost = len(result.failures)
            sys.stdout.write(f"{_line(story, result)}\n")
            for name, failure in [*result.failures.items()][:10]:
                sys.stdout.write(f"  {name}: {failure}\n")
            sys.stdout.flush()
            broken += lost
    sys.exit(1 if broken else 0)


def _line(story: str, result: Result) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(result.cuts.items()))
    disks = f"{result.disks} different disks, {result.states} different states, {result.rebuilt} rebuilt"
    return f"{story}: {kinds}; {disks}; {len(result.failures)} failures"


def _cut(story: str, number: int, options: argparse.Namespace, pool: Executor) -> Result:
    """Make *number* cuts in a story, recorded anew; fewer if only torn ones could be more."""
    with tempfile.TemporaryDirectory(prefix="dualreg-cuts-") as folder:
        recording = record(story, Path(folder) / "own")
    places, kinds = recording.places(), {*options.kind}
    # Cuts at every so many places, or as many torn disks at each place as it takes.
    stride = max(1, places * len(kinds) // number)
    torn = max(1, -(-number * stride // places) - len(kinds - {"torn"}))
    made = cuts(recording, stride=stride, torn=torn, seed=options.seed, kinds=kinds)
    return run(story, islice(made, number), pool)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cuts", description=main.__doc__)
    parser.add_argument("cuts", nargs="?", type=int, default=1000, help="how many, over all stories")
    parser.add_argument("--story", action="append", choices=[*STORIES], help="only this one; may be repeated")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="which writes torn disks keep")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="checks at a time")
    options = parser.parse_args()
    options.story, options.kind = options.story or [*STORIES], options.kind or [*KINDS]
    return options


if __name__ == "__main__":
    main()
