"""``python -m tests.endurance``: push, pull and delete for hours while processes of the server are killed."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.endurance.report import text
from tests.endurance.run import Endurance, Plan


def main() -> None:
    """Run, print what came of it, and exit with 1 if anything was not as it must be."""
    options = _options()
    plan = Plan(
        seconds=options.minutes * 60,
        clients=options.clients,
        workers=options.workers,
        kill_every=options.kill_every,
        grace=options.grace,
        seed=options.seed,
        postgresql=options.postgresql,
    )
    with tempfile.TemporaryDirectory(prefix="dualreg-endurance-", dir=options.folder) as folder:
        result = Endurance(plan, Path(folder)).run()
    sys.stdout.write(text(plan, result))
    sys.exit(0 if result.is_clean else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=main.__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=60, help="how long clients work")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--workers", type=int, default=4, help="processes of the server")
    parser.add_argument("--kill-every", type=float, default=20, metavar="SECONDS", help="0: never")
    parser.add_argument("--grace", type=int, default=60, metavar="SECONDS", help="of garbage collection")
    parser.add_argument("--seed", default="0", help="of what clients do")
    parser.add_argument("--postgresql", action="store_true", help="keep the catalog in a PostgreSQL server")
    parser.add_argument(
        "--folder", type=Path, help="where the store is; default: the system's temporary folder"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
