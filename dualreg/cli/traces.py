"""Traces: whether they can be sent, found out before a server begins."""

import click

from dualreg.cli.options import environment
from dualreg.messages import safe_line
from dualreg.settings import Settings
from dualreg.tracing.beginning import TracingUnavailable, begin_tracing

#: The only protocol: the library for gRPC has threads that do not survive a fork.
_PROTOCOL = "http/protobuf"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def check_tracing(settings: Settings) -> None:
    """Refuse to serve without the traces that were asked for, on which each worker would fail.

    Raises:
        click.ClickException: they cannot be sent as the environment says.
    """
    if not settings.tracing:
        return
    for name in _PROTOCOLS:
        if (protocol := environment().get(name, _PROTOCOL)) != _PROTOCOL:
            text = f"{name} is {safe_line(protocol)}; traces are sent by {_PROTOCOL} only"
            raise click.ClickException(text)
    try:
        begin_tracing().close()  # before any process is forked
    except TracingUnavailable as error:
        raise click.ClickException(str(error)) from error
