"""CORS: let web pages of listed origins use the V2 API.

Only origins that the setting ``cors_origins`` lists; never ``*``.  Source: the Fetch standard, "HTTP
extensions".
"""

from flask import Flask, Response, request

from dualreg.web.context import settings
from dualreg.web.current import current_request
from dualreg.web.responses import empty_response

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_REQUEST_HEADERS = "Authorization, Accept, Content-Type, Content-Range, Range, If-Match, If-None-Match"
_RESPONSE_HEADERS = (
    "Docker-Content-Digest, Link, Location, Range, Content-Range, WWW-Authenticate, ETag, "
    "OCI-Subject, OCI-Tag, OCI-Filters-Applied, Retry-After, X-Request-Id"
)


def install(app: Flask) -> None:
    """Answer preflight requests, and add the CORS headers to responses."""
    app.before_request(_preflight)
    app.after_request(_allow)


def _preflight() -> Response | None:
    """Answer OPTIONS on every V2 path, known or not, without credentials."""
    if current_request().method != "OPTIONS" or not _applies():
        return None
    headers = {"Allow": _METHODS}
    if _allowed_origin():
        headers |= {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _REQUEST_HEADERS,
            "Access-Control-Max-Age": "86400",
        }
    return empty_response(204, headers)


def _allow(response: Response) -> Response:
    if settings().cors_origins and _applies():
        response.vary.add("Origin")
        if origin := _allowed_origin():
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
    return response


def _applies() -> bool:
    """Return whether CORS applies to the path: the V2 API and its token endpoint."""
    return request.path.split("/")[1] in ("v2", "token")


def _allowed_origin() -> str | None:
    origin = request.headers.get("Origin")
    listed = {entry.strip() for entry in settings().cors_origins.split(",")}
    return origin if origin in listed else None
