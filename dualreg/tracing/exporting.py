"""Exporting: spans of OpenTelemetry, sent by a thread in the background over OTLP/HTTP.

The variables of OpenTelemetry's specification say where to, which of them, and whose:
``OTEL_EXPORTER_OTLP_…``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_…``, ``OTEL_SERVICE_NAME``,
``OTEL_RESOURCE_ATTRIBUTES``.

Nothing waits for the collector: spans wait in a queue, and are dropped when it is full.
"""

import logging
import time
from collections.abc import Mapping
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dualreg import __version__
from dualreg.messages import safe_line
from dualreg.tracing.spans import Attributes

#: Seconds for which the end of a process waits for the collector.
_MOMENT = 2.0
#: Seconds between two lines of the log which say that spans are lost.
_INTERVAL = 60.0
_LINE_LIMIT = 300
_SERVICE, _UNKNOWN = "service.name", "unknown_service"
_log = logging.getLogger(__name__)


class Tracing:
    """Makes the spans of one process, and sends them.

    Attributes:
        tracer: Begins spans.
        context: Reads and writes headers.
    """

    def __init__(self) -> None:
        """Begin the thread that sends.

        Raises:
            ValueError, OSError: a variable is invalid, or names a file that cannot be read.
        """
        _limit_messages()
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes[_SERVICE]).startswith(_UNKNOWN):
            resource = resource.merge(Resource({_SERVICE: "dualreg"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self._provider.get_tracer("dualreg", __version__)
        self.context = TraceContextTextMapPropagator()

    def request(self, name: str, attributes: Attributes, sent: Mapping[str, str]) -> "RequestSpan":
        """Begin the span of a request.

        Args:
            sent: Its headers ``traceparent`` and ``tracestate``, as far as it has them: the trace that it is
                part of.  Source: W3C Trace Context.
        """
        parent = self.context.extract(sent)
        return RequestSpan(self, self.tracer.start_span(name, parent, SpanKind.SERVER, attributes))

    def close(self) -> None:
        """Send what waits, if the collector takes it within two seconds."""
        thread = Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        thread.start()
        thread.join(_MOMENT)
        if thread.is_alive():
            _log.warning("traces are lost: the collector has not taken them within %g s", _MOMENT)


class TracedSpan:
    """A span of OpenTelemetry; see ``spans.Span``."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        """Stand for *span*."""
        self._tracing, self._span = tracing, span

    @property
    def trace_id(self) -> str:
        """See ``spans.Span``."""
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}" if context.trace_flags.sampled else ""

    def child(self, name: str, attributes: Attributes, *, is_call: bool) -> "TracedSpan":
        """See ``spans.Span``."""
        kind = SpanKind.CLIENT if is_call else SpanKind.INTERNAL
        context = set_span_in_context(self._span)
        return TracedSpan(self._tracing, self._tracing.tracer.start_span(name, context, kind, attributes))

    def set(self, attributes: Attributes) -> None:
        """See ``spans.Span``."""
        self._span.set_attributes({**attributes})

    def headers(self) -> Mapping[str, str]:
        """See ``spans.Span``."""
        found = dict[str, str]()
        self._tracing.context.inject(found, set_span_in_context(self._span))
        return found

    def end(self, failure: str = "") -> None:
        """See ``spans.Span``."""
        if failure:
            self._span.set_attribute("error.type", failure)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class RequestSpan(TracedSpan):
    """The span of a request, whose route is found while it is handled."""

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)


class _Messages(logging.Handler):
    """Has the library's warnings be one line of ours now and then, without tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._due = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _INTERVAL
            error = record.exc_info[1] if record.exc_info else None
            text = safe_line(f"{record.getMessage()} {error or ''}".rstrip())
            _log.warning("traces may be lost: %s", text[:_LINE_LIMIT])


_MESSAGES = _Messages()


def _limit_messages() -> None:
    library = logging.getLogger("opentelemetry")
    library.addHandler(_MESSAGES)  # once, however often this is called
    library.propagate = False
