"""Lane: repeats answers to reads in front of Flask, as long as nothing that they depend on has changed.

The handlers of the hottest reads say how their answer is given again (``repeatable``), and the lane keeps it.
What an answer depends on is looked at with every request:

- the request: what handlers look at is the key under which an answer is kept;
- rows: ``Registry.version`` is another value after every commit of any process, so an answer that was made at
  this version is the one that the handler would make now;
- the clock and the bytes: the handler says until when, and how to open the body, which fails if it is lost;
- who asks: grants are kept by credentials in the same way, and decide on every request.

Everything else goes on to Flask unchanged: what is asked for the first time, what is not granted, and all
that fails. So there is one description of every answer, and one of every error.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from http import HTTPStatus
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from flask import Response, g, request
from werkzeug.wsgi import ClosingIterator

from dualreg.auth.access import Action, Grant
from dualreg.image.names import RepositoryName
from dualreg.web.context import Parts, parts_in, registry
from dualreg.web.forwarded import address_of
from dualreg.web.rates import client_of
from dualreg.web.responses import API_CHECKS, FILE
from dualreg.web.slots import SMALL_RESPONSE, call_on_close

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]
#: Called with the address and the User-Agent of a client.
Note = Callable[[str, str], None]
Value = TypeVar("Value")

#: What handlers of repeatable reads look at, besides credentials, the address and the User-Agent.
ASKED = (
    "REQUEST_METHOD",
    "PATH_INFO",
    "QUERY_STRING",
    "HTTP_ACCEPT",
    "HTTP_CACHE_CONTROL",
    "HTTP_HOST",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_RANGE",
    "HTTP_ORIGIN",
    "HTTP_RANGE",
)
#: Where the environment has what ``repeatable`` was called with, and who asked.
_REPEAT, _ASKER = "dualreg.repeat", "dualreg.asker"
#: Statuses of answers that are repeated.
_REPEATED = ("200", "206", "304")
#: Bytes of the answers and of the grants that a process keeps, of what one takes besides texts and body, and
#: of what each access of a grant takes.
_ANSWERS, _GRANTS, _OVERHEAD, _ACCESS = 32 << 20, 8 << 20, 4 << 10, 400
#: The largest body that is kept, in bytes.
_BODY_LIMIT = 1 << 20
#: For how long a grant is kept: keys of other issuers change without a commit, and keys of ours retire.
_GRANT_AGE = timedelta(seconds=10)
#: The paths whose handlers may call ``repeatable``.
PATHS = re.compile(
    r"/v2/(?:.+/(?:manifests|blobs)/[^/]+|.+/tags/list)?|/v1/images/[^/]+/(?:json|layer|ancestry)"
)
#: Different User-Agents of which is remembered what they mean.
_AGENTS = 1_000


class _Asker(NamedTuple):
    """What credentials stand for.

    Attributes:
        session: The repository of a V1 session.
        asked_at: When the authority was asked, by the registry's clock.
    """

    grant: Grant
    session: RepositoryName | None
    asked_at: datetime

    def is_valid(self, now: datetime) -> bool:
        """Return whether the authority need not be asked again."""
        until = self.grant.identity.until
        return (until is None or time.time() < until) and now - self.asked_at < _GRANT_AGE


class Repeat(NamedTuple):
    """How a handler's answer is given again.

    Attributes:
        repository: What the client has to be allowed to pull from; None: it has to be logged in.
        open: Returns the body, given the WSGI environment; raises RegistryError if that is lost.
        size: Bytes in memory that the body takes.
        until: When the answer may change without a change of the catalog; None: never.
        note: Called with the address and the User-Agent of each client that gets the answer.
    """

    repository: RepositoryName | None
    open: Callable[[Environ], Iterable[bytes]]
    size: int
    until: datetime | None
    note: Note | None = None


def repeatable(
    open_: Callable[[Environ], Iterable[bytes]], *, size: int = 0, until: datetime | None = None
) -> None:
    """Let the lane repeat the answer to the current request; for the parameters, see ``Repeat``.

    Only for answers that depend on nothing but what the lane looks at.
    """
    repository, action = g.get("requested", (None, None))
    is_known = request.blueprint != "v1" or g.get("session")  # else any repository may have the image
    if is_known and action in (None, Action.PULL):
        request.environ[_REPEAT] = Repeat(repository, open_, size, until)
        request.environ[_ASKER] = _Asker(g.grant, g.get("session"), registry().now())


def repeat_document(
    response: Response, *checks: Callable[[], None], until: datetime | None = None
) -> Response:
    """Let the lane repeat *response*, whose body is in memory, while *checks* do not raise; return it."""
    sent = request.method != "HEAD" and response.status_code != HTTPStatus.NOT_MODIFIED
    body = response.get_data() if sent else b""
    repeatable(after(*checks, body=body), size=len(body), until=until)
    return response


def note_repeats(note: Note) -> None:
    """Have *note* called whenever the lane repeats the answer to the current request, if it does."""
    if repeat := request.environ.get(_REPEAT):
        request.environ[_REPEAT] = repeat._replace(note=note)


def after(*checks: Callable[[], None], body: bytes = b"") -> Callable[[Environ], Iterable[bytes]]:
    """Return what opens a body in memory, unless one of *checks* raises."""
    parts = [body] if body else []

    def open_(_: Environ) -> Iterable[bytes]:
        for check in checks:
            check()
        return parts

    return open_


class _Answer(NamedTuple):
    status: str
    headers: tuple[tuple[str, str], ...]
    length: int
    repeat: Repeat


class _Memory(Generic[Value]):
    """Values, each of which is true at one version of what it depends on."""

    def __init__(self, capacity: int) -> None:
        """Keep values of *capacity* bytes in all; the first ones make room for others."""
        self._capacity = capacity
        self._values: dict[Hashable, tuple[Hashable, Value, int]] = {}
        self._used = 0
        self._lock = Lock()

    def find(self, version: Hashable, key: Hashable) -> Value | None:
        """Return the value that was kept at this version."""
        found = self._values.get(key)
        return found[1] if found and found[0] == version else None

    def keep(self, version: Hashable, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of *size* bytes."""
        with self._lock:
            self._used += size - self._values.pop(key, (None, None, 0))[2]
            self._values[key] = (version, value, size)
            while self._used > self._capacity:
                self._used -= self._values.pop(next(iter(self._values)))[2]


@dataclass(frozen=True, slots=True)
class _Visit:
    """A request, as far as answers and grants depend on it."""

    version: Hashable
    credentials: bytes
    asked: tuple[Hashable, ...]
    address: str
    agent: str


class Lane:
    """The WSGI application that answers what it can, and hands on everything else."""

    def __init__(
        self,
        application: Application,
        extensions: Mapping[str, object],
        kind_of_agent: Callable[[str], Hashable],
    ) -> None:
        """Stand before *application*.

        Args:
            extensions: Those of the application, in which its parts are installed.
            kind_of_agent: Returns all that answers depend on of a User-Agent.
        """
        self.application = application
        self._extensions = extensions
        self._key = secrets.token_bytes(32)
        self._kind_of_agent = lru_cache(_AGENTS)(kind_of_agent)
        self._answers = _Memory[_Answer](_ANSWERS)
        self._grants = _Memory[_Asker](_GRANTS)

    @property
    def _parts(self) -> Parts:
        return parts_in(self._extensions)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 -- WSGI
        """Answer a request."""
        visit = self._visit(environ)
        if visit is None:
            return self.application(environ, start_response)
        body = self._repeat(visit, environ, start_response)
        return self._hand_on(visit, environ, start_response) if body is None else body

    def _visit(self, environ: Environ) -> _Visit | None:
        """Return what a request depends on; None if its answer is never repeated."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD") or not PATHS.fullmatch(environ["PATH_INFO"]):
            return None
        authority, path = self._parts.authority, environ["PATH_INFO"]
        needs_rows = path not in API_CHECKS or not authority.is_open  # checks of open ones: never wait for it
        version = (self._parts.registry.version() if needs_rows else None, authority.generation())
        get, agent = environ.get, environ.get("HTTP_USER_AGENT", "")
        address = address_of(environ, self._parts.settings.trusted_proxies)
        credentials = get("HTTP_AUTHORIZATION", "")
        whose = address if credentials[:6].lower() == "basic " else ""  # failed logins count for addresses
        dialect = path[:4] if needs_rows else ""
        cookie = get("HTTP_COOKIE", "") if dialect == "/v1/" else ""
        asked = (*map(get, ASKED), self._kind_of_agent(agent))
        fingerprint = self._fingerprint(dialect, credentials, cookie, whose)
        return _Visit(version, fingerprint, asked, address, agent)

    def _fingerprint(self, *credentials: str) -> bytes:
        """Return what stands for them in memory: useless to an attacker who reads it there."""
        return hashlib.blake2b(repr(credentials).encode(), key=self._key, digest_size=32).digest()

    def _repeat(self, visit: _Visit, environ: Environ, start_response: Any) -> Iterable[bytes] | None:  # noqa: ANN401 -- WSGI
        """Give the answer to a request once more; return its body, or None if that is not possible."""
        asker, now = self._grants.find(visit.version, visit.credentials), self._parts.registry.now()
        if asker is None or not asker.is_valid(now):
            return None
        answer = self._answers.find(visit.version, (asker.session, *visit.asked))
        if answer is None or not _is_allowed(asker.grant, answer.repeat.repository):
            return None
        repeat = answer.repeat
        if repeat.until and repeat.until <= now:
            return None
        try:
            body = self._open(visit, asker, answer, environ)
        except Exception:  # noqa: BLE001 -- the handler fails in the same way, and says how
            return None
        start_response(answer.status, [*answer.headers])
        return body

    def _open(self, visit: _Visit, asker: _Asker, answer: _Answer, environ: Environ) -> Iterable[bytes]:
        """Return the body of an answer, which counts and is noted for its client, and holds a slot.

        Raises:
            Exception: it cannot be sent.
        """
        is_short = answer.length <= SMALL_RESPONSE or environ["REQUEST_METHOD"] == "HEAD"
        release = _nothing if is_short else self._parts.slots.take(visit.address)
        try:
            if self._parts.rates.are_limited and environ["PATH_INFO"] not in API_CHECKS:
                self._parts.rates.take(client_of(asker.grant.identity.account, visit.address))
            if answer.repeat.note:
                answer.repeat.note(visit.address, visit.agent)
            body = answer.repeat.open(environ)
        except BaseException:
            release()
            raise
        if is_short:
            return body
        if FILE not in environ or "wsgi.file_wrapper" not in environ:
            return ClosingIterator(body, release)
        call_on_close(body, release)  # the server has to get its own wrapper
        return body

    def _hand_on(self, visit: _Visit, environ: Environ, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 -- WSGI
        """Let Flask answer, and keep the answer if its handler allows that."""

        def keep(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:  # noqa: ANN401 -- WSGI
            repeat = environ.pop(_REPEAT, None)
            if repeat is not None and status.startswith(_REPEATED):
                answer = _Answer(status, tuple(headers), _length(headers), repeat)
                self._keep(visit, environ.pop(_ASKER), answer)
            return start_response(status, headers, *more)

        return self.application(environ, keep)

    def _keep(self, visit: _Visit, asker: _Asker, answer: _Answer) -> None:
        size = _OVERHEAD + _ACCESS * len(asker.grant.accesses)
        self._grants.keep(visit.version, visit.credentials, asker, size)
        if answer.repeat.size <= _BODY_LIMIT:
            key = (asker.session, *visit.asked)
            self._answers.keep(visit.version, key, answer, answer.repeat.size + _size(key))


def _nothing() -> None:
    pass


def _is_allowed(grant: Grant, repository: RepositoryName | None) -> bool:
    return not grant.anonymous if repository is None else grant.allows(repository, Action.PULL)


def _size(key: Iterable[Hashable]) -> int:
    """Return about how many bytes a value takes with its key, without a body."""
    return _OVERHEAD + sum(len(part) for part in key if isinstance(part, str))


def _length(headers: Iterable[tuple[str, str]]) -> int:
    """Return the length that a response has by its headers, in bytes; 0 if it has none."""
    return next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
