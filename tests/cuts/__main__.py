"""``python -m tests.cuts``: kill and cut the power everywhere, and print what was tried and what was lost."""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

from tests.cuts.record import record
from tests.cuts.run import Result, cuts, run
from tests.cuts.stories import STORIES


def main() -> None:
    """Run stories, and exit with 1 if a promise was broken."""
    options = _options()
    each, broken = -(-options.cuts // len(options.story)), 0
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for story in options.story:
            result = _cut(story, each, options.seed, pool)
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(result.cuts.items()))
            lost = len(result.failures)
            sys.stdout.write(f"{story}: {kinds}; {result.disks} different disks; {lost} failures\n")
            for name, failure in [*result.failures.items()][:10]:
                sys.stdout.write(f"  {name}: {failure}\n")
            sys.stdout.flush()
            broken += lost
    sys.exit(1 if broken else 0)


def _cut(story: str, number: int, seed: int, pool: ProcessPoolExecutor) -> Result:
    """Make *number* cuts in a story, recorded anew."""
    with tempfile.TemporaryDirectory(prefix="dualreg-cuts-") as folder:
        recording = record(story, Path(folder) / "own")
    places = recording.places()
    # As many torn disks at each place as it takes, or cuts at every so many places.
    stride = next(step for step in count(1) if 3 * (places // (step + 1)) < number)
    torn = max(1, -(-number * stride // places) - 1)
    return run(story, islice(cuts(recording, stride=stride, torn=torn, seed=seed), number), pool)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cuts", description=main.__doc__)
    parser.add_argument("cuts", nargs="?", type=int, default=1000, help="how many, over all stories")
    parser.add_argument("--story", action="append", choices=[*STORIES], help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="which writes torn disks keep")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="checks at a time")
    options = parser.parse_args()
    options.story = options.story or [*STORIES]
    return options


if __name__ == "__main__":
    main()
