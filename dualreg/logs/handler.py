"""Handler: takes what is logged by Python's ``logging`` to an output, and so do threads that fail."""

import logging
import sys
import threading
from functools import partial
from typing import TextIO

from dualreg.logs.lines import Format, formatter, message_line
from dualreg.logs.output import Output

#: Seconds for which the end of a process waits for the reader of its log.
_MOMENT = 1.0


class LineHandler(logging.Handler):
    """Writes records to an output, which never waits."""

    def __init__(self, stream: TextIO, format: Format, *, owned: bool = False) -> None:
        """Write messages to *stream*, in the form *format*.

        Args:
            owned: Whether to close the stream, too.
        """
        super().__init__()
        self._owned, self._line = stream if owned else None, partial(message_line, format, "error")
        self.output = Output(stream, partial(_missing, format))
        self.setFormatter(formatter(format))

    def createLock(self) -> None:  # noqa: N802 -- logging's
        """Do without a lock: the output has one."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.output.write(self.format(record))
        except Exception:  # noqa: BLE001 -- such as of arguments that fit no message; nothing may fail for that
            self.output.write(self._line(f"{record.msg} (the rest cannot be shown)"))

    def flush(self) -> None:
        """Give the reader a moment to take what waits; Python calls this when the process ends."""
        self.output.flush(_MOMENT)

    def close(self) -> None:
        self.output.close()
        if self._owned:
            self._owned.close()
        super().close()


def log_messages(format: Format, level: str) -> None:
    """Write the messages of this process to standard error, as lines of a log.

    Args:
        level: The least severe one of ours; of libraries, warnings are.
    """
    if isinstance(logging.lastResort, LineHandler):
        logging.lastResort.close()
    logging.lastResort = LineHandler(sys.stderr, format)  # as no log is configured
    logging.getLogger("dualreg").setLevel(level.upper())
    threading.excepthook = _log_failure


def _log_failure(failure: threading.ExceptHookArgs) -> None:
    """Log what ended a thread."""
    if failure.exc_value:
        log = logging.getLogger(__name__)
        log.error("a thread failed", exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback))


def _missing(format: Format, count: int) -> str:
    return message_line(
        format, "warning", f"{count} lines are missing before this one: nothing read them in time"
    )
