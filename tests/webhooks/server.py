"""A server that starts its delivery again soon, and at its own priority: ``webhook-server dualreg serve``.

It is for ``tests.zygote``. On a busy machine, what has a lower priority takes most of a minute to start.
"""

import sys

from dualreg.cli import background, background_delivery, main


def run() -> None:
    """Run the command."""
    background._NICENESS, background_delivery._AFTER_FAILURE = 0, 0.1
    sys.argv[:] = sys.argv[1:]
    main(prog_name="dualreg")
