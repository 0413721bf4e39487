"""What systemd is notified of by the main process of ``dualreg serve``.

Source: sd_notify(3).
"""

import logging

from gunicorn.systemd import sd_notify

from dualreg.cli.options import environment

_log = logging.getLogger(__name__)


def notify_service_manager(*assignments: str) -> None:
    """Send variables, each as NAME=VALUE, to the service manager that started this process, if one did.

    A service manager that does not listen is ignored.
    """
    sd_notify("\n".join(assignments), _log)


def notify_watchdog() -> None:
    """Report to the service manager that the main process goes round its loop, if it wants to know."""
    if "WATCHDOG_USEC" in environment():
        notify_service_manager("WATCHDOG=1")
