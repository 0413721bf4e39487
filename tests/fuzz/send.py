"""Sends requests to an application in this process as gunicorn does, and checks the form of its answers."""

import io
import json
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.wsgi import ClosingIterator

from dualreg.web.v2.errors import V2_ERRORS
from tests.fuzz.grammar import Request

_CODES = {rendering.code for rendering in V2_ERRORS.values()} | {"UNKNOWN"}


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Wrong(Exception):
    """What is wrong with an answer."""


def send(app: Flask, request: Request) -> Answer:
    """Send a request; return its answer.

    Raises:
        Wrong: see ``check``; any other exception: the server would have to deal with it.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        started.append((status, headers))

    with closing(ClosingIterator(app(_environ(request), start))) as pieces:
        body = b"".join(pieces)
    ((status, headers),) = started
    answer = Answer(int(status[:3]), headers, body)
    check(request, answer)
    return answer


def _environ(request: Request) -> dict[str, Any]:
    path, _, beyond = request.path.partition("?")
    query = "&".join(filter(None, (beyond, *request.query)))
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": f"{path}?{query}" if query else path,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body if request.length is None else request.body[: request.length]),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ and key != "HTTP_HOST" else value
    if request.length is not None and (request.body or request.length):
        environ["CONTENT_LENGTH"] = str(request.length)
    elif request.length is None:
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    return environ


def check(request: Request, answer: Answer) -> None:
    """Check that an answer is no failure, can be sent, and if it refuses, does so in its dialect.

    Raises:
        Wrong: it is not so.
    """
    if answer.status >= 500:
        raise Wrong(f"{answer.status}: {answer.body[:500]!r}")
    headers = {name.lower(): value for name, value in answer.headers}
    for name, value in answer.headers:
        value.encode("latin-1")
        if any(character in name + value for character in "\r\n\0"):
            raise Wrong(f"header {name}: {value!r}")
    declared = headers.get("content-length")
    if request.method != "HEAD" and declared is not None and int(declared) != len(answer.body):
        raise Wrong(f"Content-Length {declared}, and {len(answer.body)} bytes")
    if request.method == "HEAD" and answer.body:
        raise Wrong(f"{len(answer.body)} bytes to HEAD")
    if answer.status >= 400 and answer.body:
        _check_refusal(request, answer, headers.get("content-type", ""))


def _check_refusal(request: Request, answer: Answer, content_type: str) -> None:
    dialect = unquote_to_bytes(request.path.partition("?")[0]).split(b"/")[1:2]
    if dialect not in ([b"v1"], [b"v2"]):
        return
    if content_type != "application/json":
        raise Wrong(f"{answer.status} of {content_type}")
    document = json.loads(answer.body)
    if dialect == [b"v2"]:
        entries = document.get("errors", [])
        if not entries or not all(entry["code"] in _CODES and entry["message"] for entry in entries):
            raise Wrong(f"{answer.status} {document}")
    elif not isinstance(document, str) and not isinstance(document.get("error"), str):
        raise Wrong(f"{answer.status} {document}")
