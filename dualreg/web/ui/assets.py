"""Assets: the style sheet, the scripts and the icon, which browsers keep until another version has others."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from flask import Blueprint, Response, request, url_for

from dualreg.web.address import own_path
from dualreg.web.responses import empty_response

#: The endpoint that serves them.
ENDPOINT = "ui.get_asset"
_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "ui.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


class _Asset(NamedTuple):
    """The bytes of a file, the same compressed, and what changes with them."""

    content: bytes
    compressed: bytes
    version: str


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/static/<name>")(get_asset)


def get_asset(name: str) -> Response:
    """Return a file; compressed if the browser takes that."""
    if name not in _TYPES:
        return empty_response(404, {})
    found, compresses = _read(name), request.accept_encodings["gzip"] > 0
    response = Response(found.compressed if compresses else found.content, content_type=_TYPES[name])
    if compresses:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    is_current = request.args.get("v") == found.version
    response.headers["Cache-Control"] = _FOREVER if is_current else "no-cache"
    return response


def asset(name: str) -> str:
    """Return the address of a file, which is another one when the file changes."""
    return own_path() + url_for(ENDPOINT, name=name, v=_read(name).version)


@cache
def _read(name: str) -> _Asset:
    content = (files(__package__) / "static" / name).read_bytes()
    return _Asset(content, gzip.compress(content, 9, mtime=0), hashlib.sha256(content).hexdigest()[:12])
