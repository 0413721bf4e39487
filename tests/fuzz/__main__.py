"""``python -m tests.fuzz``: send requests that no client sends, and print those that were answered badly."""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tests.fuzz.run import BATCH, Result, batch


def main() -> None:
    """Send requests, and exit with 1 if an answer was wrong."""
    options = _options()
    total, begun = Result(), time.monotonic()
    numbers = range(-(-options.requests // BATCH)) if options.batch is None else [options.batch]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for done, result in enumerate(pool.map(partial(batch, options.seed), numbers), 1):
            total.add(result)
            sys.stdout.writelines(f"{failure}\n" for failure in result.failures)
            if done % options.every == 0:
                sys.stdout.write(f"{_line(total, begun)}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{_line(total, begun)}\n")
    sys.stdout.writelines(f"  {status}: {count}\n" for status, count in sorted(total.answers.items()))
    sys.exit(1 if total.failures else 0)


def _line(result: Result, begun: float) -> str:
    requests = result.answers.total() + len(result.failures)
    return f"{requests} requests in {time.monotonic() - begun:.0f} s; {len(result.failures)} failures"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("requests", nargs="?", type=int, default=100_000, help=f"in batches of {BATCH}")
    parser.add_argument("--seed", type=int, default=0, help="what is sent")
    parser.add_argument("--batch", type=int, help="only this batch, to see a failure again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--every", type=int, default=100, help="batches after which the number so far is printed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
