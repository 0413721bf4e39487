"""The access log: a line for each request, without anything that proves who sent it."""

from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's, without user names and queries.

    gunicorn writes the name out of Basic credentials as it stands there: it could be a key, or bring a line
    of its own. Who may what is in the audit log.
    """

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> dict[str, Any]:  # noqa: ANN401 -- gunicorn's, untyped
        """Return what a line may be made of."""
        path = str(environ["RAW_URI"]).partition("?")[0]
        told: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        line = f"{environ['REQUEST_METHOD']} {path} {environ['SERVER_PROTOCOL']}"
        return told | {"u": "-", "q": "", "r": line}

    def _get_user(self, environ: dict[str, Any]) -> None:
        """Read no credentials."""
