"""Beginning: whether spans can be sent as the environment says. OpenTelemetry is imported only from here."""

from typing import TYPE_CHECKING

from dualreg.messages import safe_line

if TYPE_CHECKING:
    from dualreg.tracing.exporting import Tracing

_MISSING = "tracing needs OpenTelemetry; install it with: pip install 'dualreg[opentelemetry]'"


class TracingUnavailable(Exception):
    """Spans cannot be sent as the environment says; the text says why, and what to do."""


def begin_tracing() -> "Tracing":
    """Return what makes spans and sends them, in a thread of this process: not of those that it forks.

    Raises:
        TracingUnavailable: the library is missing, or a variable is invalid.
    """
    try:
        from dualreg.tracing.exporting import Tracing  # noqa: PLC0415 -- optional, and slow to import
    except ImportError as error:
        raise TracingUnavailable(_MISSING) from error
    try:
        return Tracing()
    except (ValueError, OSError) as error:
        raise TracingUnavailable(f"a variable OTEL_… is invalid: {safe_line(error)}") from error
