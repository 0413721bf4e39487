"""Deadlines: how long a server may take, however it spends the time.

A timeout of a socket is too little: it starts again with every byte that a slow server sends.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from threading import Timer

from urllib3.exceptions import HTTPError

from dualreg.remote.endpoint import RemoteError, redact


@contextmanager
def deadline(cut: Callable[[], None], url: str, seconds: float) -> Iterator[None]:
    """Call *cut*, which must end the wait, from another thread when the block takes longer.

    Args:
        cut: Shuts down the connections to *url*.

    Raises:
        RemoteError: the block took longer.
    """
    timer, end = Timer(seconds, cut), time.monotonic() + seconds
    timer.daemon = True
    timer.start()
    late = RemoteError(f"{redact(url)}: no complete answer within {seconds:g} s")
    try:
        yield
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        if time.monotonic() < end:
            raise
        raise late from error
    finally:
        timer.cancel()
    if time.monotonic() >= end:  # a body that ends with its connection looks complete
        raise late
