"""Current: the request of this thread, what it keeps, and its application, each as the object itself.

Flask's proxies look for their object whenever they are used, which takes longer than most of what is asked of
it. So what every request runs asks for the object once. Anything else uses the proxies.

Source: Flask, "Context", "Proxies".
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from flask import Flask, Request, current_app, g, request

#: What a request without a query has of parameters.
_NONE: Mapping[str, str] = MappingProxyType({})
#: Each returns what the proxy of its name stands for.
current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001 -- as Flask documents
current_facts: Callable[[], Any] = g._get_current_object  # noqa: SLF001 -- as above
current_application: Callable[[], Flask] = current_app._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001 -- as above


def query() -> Mapping[str, str]:
    """Return the first of each parameter in the query of this request; to parse none takes long, too."""
    asked = current_request()
    return asked.args if asked.query_string else _NONE


def current_agent() -> str:
    """Return the User-Agent of the current request; empty if it has none."""
    agent: str = current_request().environ.get("HTTP_USER_AGENT", "")
    return agent
