"""How much is tried: a little by default, so that the tests are run often; with ``SOAK`` as long as it takes.

``make soak`` sets it.
"""

import os
from typing import TypeVar

Amount = TypeVar("Amount")

#: Whether to run the long forms of tests.
SOAK = bool(os.environ.get("SOAK"))


def short_or_long(short: Amount, long: Amount) -> Amount:
    """Return *long* with ``SOAK``, else *short*."""
    return long if SOAK else short
