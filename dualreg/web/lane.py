"""Lane: repeats answers to reads in front of Flask, as long as nothing that they depend on has changed.

The handlers of the hottest reads say how their answer is given again (``repeatable``), and the lane keeps it.
What an answer depends on is looked at with every request:

- the request: what handlers look at is the key under which an answer is kept;
- rows: ``Registry.version`` is another value after every commit of any process, so an answer that was made at
  this version is the one that the handler would make now;
- for V1, how much of it is served, which a process finds out up to a second after the commit that changes it;
- the clock and the bytes: the handler says until when, and how to open the body, which fails if it is lost;
- who asks: grants are kept by credentials in the same way, and decide on every request.

Everything else goes on to Flask unchanged: what is asked for the first time, what is not granted, and all
that fails. So there is one description of every answer, and one of every error.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from werkzeug.wsgi import ClosingIterator

from dualreg.errors import TooManyRequests
from dualreg.web.context import Parts, parts_in
from dualreg.web.forwarded import ADDRESS
from dualreg.web.identified import ACCOUNT, answering, identify, keep_facts
from dualreg.web.rates import client_of
from dualreg.web.repeatable import REPEATED_AT_ONCE, Asker, Environ, Repeat, take_repeat
from dualreg.web.responses import API_CHECKS, FILE, ROUTE
from dualreg.web.slots import SMALL_RESPONSE, call_on_close

Application = Callable[[Environ, Any], Iterable[bytes]]
Value = TypeVar("Value")
#: What was found of rows and files, for requests that had all arrived before the first look; by what it is
#: needed for. None of their answers is then older than its request.
Looks = dict[Hashable, Hashable]

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
    "HTTP_OCI_NAMESPACE",
    "HTTP_ORIGIN",
    "HTTP_RANGE",
)
#: Statuses of answers that are repeated.
_REPEATED = ("200", "206", "304")
#: Bytes of the answers and of the grants that a process keeps, of what one takes besides texts and body, and
#: of what each access of a grant takes.
_ANSWERS, _GRANTS, _OVERHEAD, _ACCESS = 32 << 20, 8 << 20, 4 << 10, 400
#: Bytes of the names of accounts that have sent too many requests, and what one takes.
_REFUSED, _NAME = 1 << 20, 500
#: The largest body that is kept, in bytes.
_BODY_LIMIT = 1 << 20
#: The paths whose handlers may call ``repeatable``.
PATHS = re.compile(
    r"/v2/(?:.+/(?:manifests|blobs)/[^/]+|.+/tags/list|_catalog)?|/v1/images/[^/]+/(?:json|layer|ancestry)"
)
#: Different User-Agents of which is remembered what they mean.
_AGENTS = 1_000


class Ready(NamedTuple):
    """An answer that can be sent at once.

    Attributes:
        release: To be called when it has been sent, or cannot be.
    """

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    release: Callable[[], None]


class _Answer(NamedTuple):
    status: str
    headers: tuple[tuple[str, str], ...]
    length: int | None
    repeat: Repeat
    route: str

    def has_end(self, environ: Environ) -> bool:
        """Return whether a client knows where the answer ends, although it is not sent in chunks."""
        return self.length is not None or environ["REQUEST_METHOD"] == "HEAD" or self.status.startswith("304")


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
        self._grants = _Memory[Asker](_GRANTS)
        # The accounts of credentials with which too many requests were sent.
        self._refused = _Memory[str](_REFUSED)

    @property
    def _parts(self) -> Parts:
        return parts_in(self._extensions)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 -- WSGI
        """Answer a request."""
        start_response = answering(environ, start_response, self._parts.settings.trusted_proxies)
        visit = self._visit(environ)
        if visit is None:
            return self.application(environ, start_response)
        body = self._repeat(visit, environ, start_response)
        return self._hand_on(visit, environ, start_response) if body is None else body

    @property
    def is_immediate(self) -> bool:
        """Whether ``at_once`` finds anything."""
        return self._parts.registry.is_local() and self._parts.authority.is_local

    def at_once(self, environ: Environ, looks: Looks) -> Ready | None:
        """Return the answer to a request if it can be repeated without waiting for anything.

        It was counted and noted like one that is sent.

        Args:
            environ: Of its WSGI environment, what a head contains and the address. What the log says of the
                request is added, whether there is an answer or not.
            looks: Empty, or of requests that arrived together with this one.
        """
        try:
            identify(environ, self._parts.settings.trusted_proxies)
            visit = self._visit(environ, looks)
            if visit is None or (found := self._find(visit)) is None:
                return None
            asker, answer = found
            environ[ROUTE] = answer.route
            body = answer.repeat.body()
            if body is None or len(body) > REPEATED_AT_ONCE or not answer.has_end(environ):
                return None
            return Ready(answer.status, answer.headers, body, self._admit(visit, asker, answer, environ))
        except Exception:  # noqa: BLE001 -- the handler fails in the same way, and says how
            return None

    def _visit(self, environ: Environ, looks: Looks | None = None) -> _Visit | None:
        """Return what a request depends on; None: its answer is not repeated, or its version takes a wait.

        With *looks*, nothing is waited for. The rows are looked at last, which on PostgreSQL is a round trip.
        """
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD") or not PATHS.fullmatch(path):
            return None
        get, agent = environ.get, environ.get("HTTP_USER_AGENT", "")
        address = environ[ADDRESS]
        credentials = get("HTTP_AUTHORIZATION", "")
        whose = address if credentials[:6].lower() == "basic " else ""  # failed logins count for addresses
        dialect = path[:4] if self._needs_rows(path) else ""
        cookie = get("HTTP_COOKIE", "") if dialect == "/v1/" else ""
        asked = (*map(get, ASKED), self._kind_of_agent(agent))
        fingerprint = self._fingerprint(dialect, credentials, cookie, whose)
        if self._has_sent_too_many(path, credentials, fingerprint, address):
            return None
        version = self._version(path, wait=True) if looks is None else self._seen(path, looks)
        return None if version is None else _Visit(version, fingerprint, asked, address, agent)

    def _has_sent_too_many(self, path: str, credentials: str, fingerprint: bytes, address: str) -> bool:
        """Return whether the client is likely to be refused for its rate, which needs no look at rows.

        Flask decides. A request with credentials counts for whom it did when those were refused before.
        """
        if not self._parts.rates.are_limited or path in API_CHECKS:
            return False
        is_anonymous = not credentials or self._parts.authority.is_open
        account = "" if is_anonymous else self._refused.find((), fingerprint)
        if account is None:
            return False
        try:
            self._parts.rates.check(client_of(account, address))
        except TooManyRequests:
            return True
        return False

    def _needs_rows(self, path: str) -> bool:
        """Return whether an answer depends on rows: checks of open registries never wait for the database."""
        return path not in API_CHECKS or not self._parts.authority.is_open

    def _seen(self, path: str, looks: Looks) -> Hashable | None:
        """Return the version that was found for another request, or now; None: that takes a wait."""
        needed = path.startswith("/v1/"), self._needs_rows(path)
        version = looks.get(needed)
        if version is None and (version := self._version(path, wait=False)) is not None:
            looks[needed] = version
        return version

    def _version(self, path: str, *, wait: bool) -> Hashable | None:
        """Return the version of all that answers depend on but requests, bytes, and the clock.

        Args:
            wait: Whether to wait for the database and files; otherwise None is returned instead.
        """
        mode = self._mode_of_v1(wait=wait) if path.startswith("/v1/") else ""
        if mode is None:
            return None  # the next looks would wait for a database that is away
        rows = self._parts.registry.version(wait=wait) if self._needs_rows(path) else ()
        generation = self._parts.authority.generation(wait=wait)
        return None if None in (rows, generation) else (mode, rows, generation)

    def _mode_of_v1(self, *, wait: bool) -> Hashable | None:
        """Return how much of the V1 API is served; None: that takes a wait, or cannot be found out."""
        switch, setting = self._parts.registry.v1_switch, self._parts.settings.v1
        known = switch.known(setting)
        if known or not wait:
            return known
        try:
            return switch.mode(setting)
        except Exception:  # noqa: BLE001 -- the handler fails in the same way, and says how
            return None

    def _fingerprint(self, *credentials: str) -> bytes:
        """Return what stands for them in memory: useless to an attacker who reads it there."""
        text = "\n".join(credentials)  # no header has a line end
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=32).digest()

    def _find(self, visit: _Visit) -> tuple[Asker, _Answer] | None:
        """Return who asks and the answer that was kept, if it is still right and the client may have it."""
        asker, now = self._grants.find(visit.version, visit.credentials), self._parts.registry.now()
        if asker is None or not asker.is_valid(now):
            return None
        answer = self._answers.find(visit.version, (asker.session, *visit.asked))
        if answer is None:
            answer = self._answers.find(visit.version, (visit.credentials, *visit.asked))
        if answer is None or not asker.may_get(answer.repeat):
            return None
        until = answer.repeat.until
        return None if until and until <= now else (asker, answer)

    def _repeat(self, visit: _Visit, environ: Environ, start_response: Any) -> Iterable[bytes] | None:  # noqa: ANN401 -- WSGI
        """Give the answer to a request once more; return its body, or None if that is not possible."""
        if (found := self._find(visit)) is None:
            return None
        asker, answer = found
        environ[ROUTE] = answer.route
        try:
            body = _open(answer.repeat, environ)
            if body is None:
                return None
            try:
                release = self._admit(visit, asker, answer, environ)
            except BaseException:
                getattr(body, "close", _nothing)()
                raise
        except Exception:  # noqa: BLE001 -- the handler fails in the same way, and says how
            return None
        start_response(answer.status, [*answer.headers])
        if release is _nothing:
            return body
        if FILE not in environ or "wsgi.file_wrapper" not in environ:
            return ClosingIterator(body, release)
        call_on_close(body, release)  # the server has to get its own wrapper
        return body

    def _admit(self, visit: _Visit, asker: Asker, answer: _Answer, environ: Environ) -> Callable[[], None]:
        """Count and note an answer for its client, and take the slot that it needs.

        Returns:
            What gives the slot back.

        Raises:
            Exception: it is not to be sent, and was not counted.
        """
        is_short = (answer.length or 0) <= SMALL_RESPONSE or environ["REQUEST_METHOD"] == "HEAD"
        release = _nothing if is_short else self._parts.slots.take(visit.address)
        try:
            if self._parts.rates.are_limited and environ["PATH_INFO"] not in API_CHECKS:
                self._parts.rates.take(client_of(asker.grant.identity.account, visit.address))
            if answer.repeat.note:
                answer.repeat.note(visit.address, visit.agent)
            keep_facts(environ, asker.grant.identity.account, answer.repeat.repository)
        except BaseException:
            release()
            raise
        return release

    def _hand_on(self, visit: _Visit, environ: Environ, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 -- WSGI
        """Let Flask answer, and keep the answer if its handler allows that."""

        def keep(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:  # noqa: ANN401 -- WSGI
            taken = take_repeat(environ)
            if taken and status.startswith(_REPEATED):
                repeat, asker = taken
                route = environ.get(ROUTE, "")
                self._keep(visit, asker, _Answer(status, tuple(headers), _length(headers), repeat, route))
            if status.startswith("429"):
                self._refused.keep((), visit.credentials, environ.get(ACCOUNT, ""), _NAME)
            return start_response(status, headers, *more)

        return self.application(environ, keep)

    def _keep(self, visit: _Visit, asker: Asker, answer: _Answer) -> None:
        size = _OVERHEAD + _ACCESS * len(asker.grant.accesses)
        self._grants.keep(visit.version, visit.credentials, asker, size)
        if answer.repeat.size <= _BODY_LIMIT:
            key = (visit.credentials if answer.repeat.is_personal else asker.session, *visit.asked)
            self._answers.keep(visit.version, key, answer, answer.repeat.size + _size(key))


def _nothing() -> None:
    pass


def _open(repeat: Repeat, environ: Environ) -> Iterable[bytes] | None:
    """Return the body of an answer, as ``Repeat`` says."""
    if repeat.open:
        return repeat.open(environ)
    body = repeat.body()
    return body if body is None else [body]


def _size(key: Iterable[Hashable]) -> int:
    """Return about how many bytes a value takes with its key, without a body."""
    return _OVERHEAD + sum(len(part) for part in key if isinstance(part, str))


def _length(headers: Iterable[tuple[str, str]]) -> int | None:
    """Return the length that a response has by its headers, in bytes; None if it has none."""
    return next((int(value) for name, value in headers if name.lower() == "content-length"), None)
