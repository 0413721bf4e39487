"""Application: Flask, without what is not used here and takes time in every request.

There are no signals, sessions or coroutines. What is called before and after a view is looked up once for
each blueprint, and the route of a push or a pull by one expression.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, NamedTuple

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter, Rule

from dualreg.web.current import current_request

#: Paths of pushes and pulls, without characters that would have to be escaped. The end says which route takes
#: one, whatever the name of the repository is.
_PATH = re.compile(
    r"/v2/(?P<name>[A-Za-z0-9._/-]+)/(?:blobs/uploads/(?P<upload>[A-Za-z0-9-]+)|blobs/uploads/"
    r"|blobs/(?P<digest>[a-z0-9]+:[0-9a-f]+)|manifests/(?P<reference>[A-Za-z0-9._:-]+))"
)
#: Their routes, by the last value in the path.
_ROUTES = {
    "name": "/v2/<path:name>/blobs/uploads/",
    "upload": "/v2/<path:name>/blobs/uploads/<upload>",
    "digest": "/v2/<path:name>/blobs/<digest>",
    "reference": "/v2/<path:name>/manifests/<reference>",
}
#: Hosts of which nothing is to be said against their names.
_PLAIN_HOST = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,9}(?::[0-9]{1,5})?")
#: A length of which nothing is to be said either.
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


class _Calls(NamedTuple):
    """What is called before and after the views of a blueprint."""

    prepare: tuple[Callable[[str | None, dict[str, Any] | None], object], ...]
    before: tuple[Callable[[], Any], ...]
    after: tuple[Callable[[Response], Response], ...]


class _NoSessions(SessionInterface):
    """Clients have no sessions of Flask's."""

    def __init__(self) -> None:
        """Have one for all of them, which is empty."""
        self._none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        del app, request
        return self._none


class _Request(Request):
    """A request, which has one route."""

    @cached_property
    def content_length(self) -> int | None:
        """The length of the body, as its head says; Flask reads it anew whenever it is asked."""
        length: str | None = self.environ.get("CONTENT_LENGTH")
        if length is None:
            return None
        is_plain = _LENGTH.fullmatch(length) and "HTTP_TRANSFER_ENCODING" not in self.environ
        return int(length) if is_plain else super().content_length

    @cached_property
    def blueprint(self) -> str | None:
        """The blueprint of the view; None if there is none. Flask finds it anew whenever it is asked."""
        return super().blueprint


class Application(Flask):
    """The WSGI application.

    Attributes:
        request_class, session_interface: As Flask documents.
    """

    request_class = _Request
    session_interface = _NoSessions()

    def __init__(self, name: str) -> None:
        """Have no routes yet: they are added before the first request, as is what is called with views."""
        super().__init__(name, static_folder=None)
        self._calls = cache(self._find_calls)
        self._rules = cache(self._find_rules)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return *func*: no handler is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of *request*; None: it is found.

        The paths of pushes are matched by one expression, others by Flask.
        """
        if request is None:
            return None
        if found := self._route(request.environ):
            request.url_rule, request.view_args = found
            return None
        return super().create_url_adapter(request)

    def _route(self, environ: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]] | None:
        """Return the route of a request and the values in its path, if both are beyond doubt."""
        match, host = _PATH.fullmatch(environ.get("PATH_INFO", "")), environ.get("HTTP_HOST", "")
        if match is None or not _PLAIN_HOST.fullmatch(host) or "HTTP_UPGRADE" in environ:
            return None
        rule = self._rules().get((match.lastgroup, environ["REQUEST_METHOD"]))
        values = {name: value for name, value in match.groupdict().items() if value}
        return None if rule is None else (rule, values)

    def _find_rules(self) -> Mapping[tuple[str | None, str], Rule]:
        """Return the routes in ``_ROUTES`` by their keys there and by method."""
        last = {route: key for key, route in _ROUTES.items()}
        return {
            (last[rule.rule], method): rule
            for rule in self.url_map.iter_rules()
            if rule.rule in last
            for method in (rule.methods or set()) - {"OPTIONS"}  # to which Flask itself finds an answer
        }

    def full_dispatch_request(self) -> Response:
        """Return the response to the current request."""
        try:
            answer = self.preprocess_request()
            if answer is None:
                answer = self.dispatch_request()
        except Exception as error:  # noqa: BLE001 -- as Flask does
            answer = self.handle_user_exception(error)
        return self.process_response(self.make_response(answer))

    def preprocess_request(self) -> Any:  # noqa: ANN401 -- what a view may return
        """Call what is called before the view; return the first answer, which replaces the view's."""
        asked = current_request()
        calls = self._calls(asked.blueprint)
        for prepare in calls.prepare:
            prepare(asked.endpoint, asked.view_args)
        for before in calls.before:
            if (answer := before()) is not None:
                return answer
        return None

    def process_response(self, response: Response) -> Response:
        """Return what becomes of *response* by what is called after the view."""
        for after in self._calls(current_request().blueprint).after:
            response = after(response)
        return response

    def do_teardown_request(self, *_: object) -> None:
        """Do nothing: all that views open is closed by them, or with the response."""

    def do_teardown_appcontext(self, *_: object) -> None:
        """Do nothing either."""

    def _find_calls(self, blueprint: str | None) -> _Calls:
        """Return what is called for a blueprint; None: for requests that none takes. They are not nested."""
        names = (None, *filter(None, (blueprint,)))
        return _Calls(
            tuple(each for name in names for each in self.url_value_preprocessors.get(name, ())),
            tuple(each for name in names for each in self.before_request_funcs.get(name, ())),
            tuple(
                each for name in reversed(names) for each in reversed(self.after_request_funcs.get(name, ()))
            ),
        )
