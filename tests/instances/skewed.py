"""Runs a command of ours by a clock that is wrong: ``by-clock SECONDS dualreg …``, for ``tests.zygote``.

Under libfaketime, Python's sleep fails, or lasts forever. So what modules of ours, and the one that verifies
tokens, call ``datetime`` is replaced, and ``time.time`` for all.
"""

import importlib
import pkgutil
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo

import jwt.api_jwt

import dualreg


def skewed(seconds: float) -> type[datetime]:
    """Return a class like ``datetime`` whose ``now`` is some seconds ahead, and no instance of this class."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC).astimezone(tz) + timedelta(seconds=seconds)

    return Skewed


def main() -> None:
    """Run the command."""
    seconds, right = float(sys.argv[1]), time.time
    found = (each.name for each in pkgutil.walk_packages(dualreg.__path__, "dualreg."))
    wrong, ours = skewed(seconds), [importlib.import_module(name) for name in found if "__main__" not in name]
    for module in (*ours, jwt.api_jwt):
        if getattr(module, "datetime", None) is datetime:
            module.datetime = wrong  # type: ignore[attr-defined]
    time.time = lambda: right() + seconds
    sys.argv[:] = sys.argv[2:]
    importlib.import_module("dualreg.cli").main(prog_name="dualreg")
