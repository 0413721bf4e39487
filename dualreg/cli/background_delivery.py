"""The process beside the server that delivers events to webhooks, and what starts it.

A file in the data directory says that there are webhooks (``webhooks.mark``). The process is started when it
appears; on other instances, minutes later. It ends when there are no webhooks.
"""

import os
import time

from dualreg.cli.background import Beside, how_ended, start_child, stop_child
from dualreg.cli.output import echo
from dualreg.settings import Settings
from dualreg.webhooks.mark import marked_at

#: Settings that the process gets besides those that all have.
_SETTINGS = ("public_url", "webhook_networks", "webhook_give_up")
#: Seconds until the first look at whether there are webhooks, between two later ones, and after a failure.
_FIRST, _LATER, _AFTER_FAILURE = 60.0, 600.0, 3.0


class BackgroundDelivery(Beside):
    """Runs the process of a server while there are webhooks."""

    def __init__(self, settings: Settings) -> None:
        """Run it with what the server has of *settings*."""
        self._settings = settings
        self._due = time.monotonic() + _FIRST
        self._seen: int | None = None

    def start(self) -> None:
        """Do nothing: ``keep_running`` does."""

    def keep_running(self) -> None:
        """Start the process if there may be webhooks; to be called about every second."""
        changed = marked_at(self._settings.data)
        if self._process and (status := self._process.poll()) is not None:
            if changed is not None:  # the file is gone if it is done
                echo(f"the delivery to webhooks {how_ended(status)}; restarting", err=True)
            self._due = time.monotonic() + (_LATER if changed is None else _AFTER_FAILURE)
            self._seen, self._process = changed, None
        if self._process or not (changed not in (None, self._seen) or time.monotonic() >= self._due):
            return
        self._seen, self._due = changed, time.monotonic() + _AFTER_FAILURE
        command = ("webhook", "deliver", "--parent", str(os.getpid()))
        try:
            self._process = start_child(self._settings, *command, also=_SETTINGS)
        except OSError as error:  # such as for lack of memory, which must not end the server
            echo(f"cannot start the delivery to webhooks: {error}", err=True)

    def stop(self) -> None:
        """Stop the process; what it is sending then may be sent again later."""
        if self._process:
            stop_child(self._process)
            self._process = None
