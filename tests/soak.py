"""How much is tried: a little by default, so that the tests are run often; with ``SOAK`` as long as it takes.

``make soak`` sets it.
"""

import os
from typing import TypeVar

Amount = TypeVar("Amount")

#: Whether there is time.
SOAK = bool(os.environ.get("SOAK"))


def amount(short: Amount, long: Amount) -> Amount:
    """Return what to try now."""
    return long if SOAK else short
