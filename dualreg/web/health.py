"""Health: what fails of what every push needs, for ``/_status`` and ``/readyz``."""

from collections.abc import Mapping

from dualreg.registry.readiness import Readiness
from dualreg.web.context import Parts


def failures_of(parts: Parts) -> Mapping[str, str]:
    """Return what fails, ``catalog``, ``storage`` or ``audit``, with the name of the error."""
    return {**parts.registry.health.failures(), **parts.audit.failures()}


def readiness_of(parts: Parts) -> Readiness:
    """Return what knows that without waiting."""
    return Readiness(lambda: failures_of(parts), parts.registry.health.slow)
