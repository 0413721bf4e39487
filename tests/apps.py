"""Applications in this process, and clients of them."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from dualreg.assembly import build_authority
from dualreg.auth.access import ANONYMOUS, EVERYTHING, Action, Grant, is_repository
from dualreg.auth.audit import Audit
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web import context, lane
from dualreg.web.app import create_app
from dualreg.web.identified import HEADER
from dualreg.web.lane import Lane, Looks
from dualreg.web.late import LateAnswers
from dualreg.web.responses import READS
from dualreg.web.slots import Slots

#: How tests write the token of a V1 session which they were not given.
_UNSIGNED = re.compile(r'(?:signature=[0-9]+,)?repository="([^"]+)"')
_EVERYTHING = Grant(ANONYMOUS, EVERYTHING)


def application(registry: Registry, settings: Settings | None = None, **chosen: object) -> Flask:
    """Return an application over *registry* that leaves no audit log, unless it is told to.

    It signs V1 tokens that a test wrote by hand, as if the index had given them.
    """
    settings = settings or Settings.model_validate({"audit": "off"} | chosen)
    app = create_app(settings.model_copy(update={"audit": settings.audit or "off"}), registry)
    assert isinstance(app.wsgi_app, Lane)
    app.wsgi_app = _Signing(app, _Comparing(app.wsgi_app))  # type: ignore[method-assign]
    return app


def serve_instead(app: Flask, registry: Registry, settings: Settings) -> None:
    """Let *app* serve another registry from now on: making an application takes longer than most tests."""
    authority, threads = build_authority(settings, registry.state.catalog), settings.threads
    parts = context.Parts(registry, authority, Audit(""), settings, Slots(threads), LateAnswers(threads))
    context.install(parts, app.extensions)


def client_of(registry: Registry, settings: Settings | None = None, **chosen: object) -> FlaskClient:
    """Return a client of an ``application``."""
    return application(registry, settings, **chosen).test_client()


#: Whether reads that the lane may repeat are answered three times, to compare the answers.
COMPARING = False


class _Comparing:
    """Compares what Flask answers, what the lane answers, and what it repeats, at once too; byte for byte."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        if (
            not COMPARING
            or environ["REQUEST_METHOD"] not in READS
            or not lane.PATHS.fullmatch(environ["PATH_INFO"])
        ):
            return self._lane(environ, start_response)
        answers = [answer_of(each, {**environ}) for each in (self._lane.application, self._lane, self._lane)]
        assert answers[0] == answers[1] == answers[2]
        assert answer_at_once(self._lane, environ) in (None, answers[0])
        status, headers, body = answers[0]
        start_response(status, headers)
        return [body]


def answer_of(application: Any, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return the status, the headers but for the id, and the whole body that a WSGI application answers."""
    started: list[Any] = []
    body = application(environ, lambda *given: started.append(given))
    try:
        content = b"".join(body)
    finally:
        getattr(body, "close", lambda: None)()
    return started[0][0], [each for each in started[0][1] if each[0] != HEADER], content


def answer_at_once(lane: Lane, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes] | None:
    """Return what the lane answers without waiting, as ``answer_of``; None if it answers nothing."""
    ready = lane.at_once(environ, Looks())
    if ready is None:
        return None
    ready.release()
    return ready.status, [*ready.headers], ready.body


class _Signing:
    """Puts a signature into tokens that have none."""

    def __init__(self, app: Flask, inner: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Go on with the request."""
        header = environ.get("HTTP_AUTHORIZATION", "")
        match = _UNSIGNED.search(header) if header.startswith("Token ") else None
        if match and is_repository(match[1]):
            environ["HTTP_AUTHORIZATION"] = header.replace(match[0], self._signed(match[1]))
        return self._inner(environ, start_response)

    def _signed(self, repository: str) -> str:
        with self._app.app_context():
            name, actions = repository, (Action.PULL, Action.PUSH, Action.DELETE)
            token = context.authority().session_token(_EVERYTHING, name, *actions)  # type: ignore[arg-type]
        return f'signature={token},repository="{repository}"'
