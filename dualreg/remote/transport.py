"""One request: retries, redirects, and limits of time and size; ``fetch`` for a single small document."""

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, Self
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError

from dualreg.messages import mask
from dualreg.remote.connections import connecting_by
from dualreg.remote.deadline import deadline
from dualreg.remote.endpoint import Endpoint, RemoteError, endpoint_of, joined, redact
from dualreg.remote.reach import AddressRefused, Reach, limit
from dualreg.tracing.spans import Span, span

#: A request body.
Content = BinaryIO | Iterable[bytes] | bytes | None
#: Statuses after which a request is repeated: the server is busy, or, of the last, has failed.
_BUSY, _FAILED = (429, 502, 503, 504), 500
#: Seconds of the longest ``Retry-After`` that is waited for; a longer one is returned as the answer.
_RETRY_AFTER_LIMIT = 120
_REDIRECTS_LIMIT = 5
#: Bytes of an unwanted body that are read, so that its connection can be used again.
_DISCARD_LIMIT = 64 << 10
#: Seconds to read such a body.
_DISCARD_SECONDS = 10
_SAME_METHOD = (307, 308)
#: The first digit of the statuses of success.
_SUCCESS = 2


class Effort(NamedTuple):
    """How much is done for an answer, and how long is waited for it.

    Attributes:
        repeats: How often a repeatable request is sent again.
        is_patient: Whether that is also done after a busy answer, when the server says.
        connect, read: Seconds to connect, and between two bytes.
        whole: Seconds to read the head of an answer, or a body that is read whole.
    """

    repeats: int
    is_patient: bool
    connect: float
    read: float
    whole: float


#: For work that takes long anyway.
PERSISTENT = Effort(repeats=5, is_patient=True, connect=20, read=120, whole=600)
#: For requests that a client waits for.
PROMPT = Effort(repeats=1, is_patient=False, connect=3, read=8, whole=12)
#: For requests that a server may have granted without an answer: they are not sent again.
ONCE = Effort(repeats=0, is_patient=False, connect=10, read=120, whole=600)
#: For requests to servers nearby, in place of which another one can be asked.
NEARBY = Effort(repeats=0, is_patient=False, connect=1, read=3, whole=3)


class Request(NamedTuple):
    """A request to send."""

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: Content = None

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent again: its body is not a stream."""
        return self.body is None or isinstance(self.body, bytes)

    def redirected(self, response: urllib3.BaseHTTPResponse) -> Self | None:
        """Return the request that *response* redirects to; None if it is the final answer."""
        location = response.get_redirect_location()
        if self.method not in ("GET", "HEAD"):
            location = self.body is None and response.status in _SAME_METHOD and location
        return self._replace(url=joined(self.url, location)) if location else None


class Answer(NamedTuple):
    """A response whose body was not read yet, and the URL it came from after redirects."""

    response: urllib3.BaseHTTPResponse
    url: str

    def read(self, limit: int, seconds: float = PERSISTENT.whole) -> bytes:
        """Return the whole body, and give the connection back.

        Raises:
            HTTPError: it is cut short.
            RemoteError: it is longer than *limit* bytes, or takes longer than *seconds*.
        """
        content = b""
        try:
            with deadline(partial(_cut, self.response), self.url, seconds):
                while len(content) <= limit and (data := self.response.read(limit + 1 - len(content))):
                    content += data
        finally:
            self.response.release_conn()
        if len(content) > limit:
            self.response.close()
            raise RemoteError(f"{redact(self.url)}: answer exceeds {limit} bytes")
        return content

    def excerpt(self, limit: int, seconds: float) -> bytes:
        """Return up to *limit* bytes of the body, none if that takes longer; give the connection back."""
        content, left = b"", True
        with suppress(HTTPError, RemoteError), deadline(partial(_cut, self.response), self.url, seconds):
            content = self.response.read(limit + 1)
            left = len(content) > limit
        if left:
            self.response.close()
        self.response.release_conn()
        return content[:limit]


class Authorization(NamedTuple):
    """A value of the ``Authorization`` header (empty: none), and the only endpoint it is sent to."""

    value: str
    endpoint: Endpoint


class HttpTransport:
    """Sends requests from any number of threads, and keeps connections open."""

    def __init__(
        self,
        reach: Reach,
        ca: str | None = None,
        *,
        repeat_failed: bool = True,
        effort: Effort = PERSISTENT,
    ) -> None:
        """Connect within *reach*; verify servers by the authorities in the PEM file *ca*, or the system's.

        Args:
            repeat_failed: Also repeat a request that the server answered with 500.
        """
        self._reach = reach
        statuses = (*_BUSY, _FAILED) if repeat_failed else _BUSY
        few = min(effort.repeats, 2)
        self._repeatable = _Retry(
            total=effort.repeats, connect=few, read=few, backoff_factor=0.2,
            status_forcelist=statuses if effort.is_patient else (), allowed_methods=None,
            raise_on_status=False, respect_retry_after_header=effort.is_patient,
        )  # fmt: skip
        self._unrepeatable = _Retry(connect=few, read=False, allowed_methods=("GET", "HEAD"))
        timeout = urllib3.Timeout(connect=effort.connect, read=effort.read)
        manager = urllib3.PoolManager(maxsize=32, timeout=timeout, ca_certs=ca)
        self._pool = connecting_by(limit(manager, reach), partial(_with_deadline, seconds=effort.whole))

    def send(self, request: Request, authorization: Authorization) -> Answer:
        """Send a request, and follow redirects; return the answer, whatever its status.

        A repeatable request is sent again if the server is busy or the connection breaks.

        Raises:
            RemoteError: there is no answer, or too many redirects.
        """
        for _ in range(_REDIRECTS_LIMIT + 1):
            response = self._send(request, authorization)
            redirected = request.redirected(response)
            if redirected is None:
                return Answer(response, request.url)
            discard(response)
            request = redirected
        raise RemoteError(f"{request.method} {redact(request.url)}: too many redirects")

    def _send(self, request: Request, authorization: Authorization) -> urllib3.BaseHTTPResponse:
        headers, endpoint = dict(request.headers), endpoint_of(request.url)
        if authorization.value and endpoint == authorization.endpoint:
            headers["Authorization"] = authorization.value
        try:
            with _span(request, endpoint) as traced:
                if traced and endpoint == authorization.endpoint:
                    headers |= traced.headers()
                response = self._pool.request(
                    request.method,
                    request.url,
                    headers=headers,
                    body=request.body,
                    preload_content=False,
                    redirect=False,
                    retries=self._repeatable if request.is_repeatable else self._unrepeatable,
                )
                if traced:
                    traced.set({"http.response.status_code": response.status})
                return response
        except AddressRefused as error:
            hint = self._reach.hint(endpoint.host)
            raise RemoteError(f"{failure(request.method, request.url, error)}; {hint}") from error
        except HTTPError as error:
            raise failure(request.method, request.url, error) from error


def _span(request: Request, endpoint: Endpoint) -> AbstractContextManager[Span | None]:
    """Return the span in which a request is sent, until the head of the answer has arrived."""
    return span(
        request.method,
        {
            "http.request.method": request.method,
            "server.address": endpoint.host,
            "server.port": endpoint.port,
            "url.full": redact(request.url),
        },
    )


class _Late(HTTPError):
    """The head of an answer took too long; a request that fails so is not repeated."""


class _Retry(urllib3.Retry):
    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        *args: Any,  # noqa: ANN401 -- as urllib3 declares it
        **kwargs: Any,  # noqa: ANN401 -- likewise
    ) -> Self:
        # A server that locks a client out for long, as after failed logins, has given its final answer.
        if response is not None and (self.get_retry_after(response) or 0) > _RETRY_AFTER_LIMIT:
            raise MaxRetryError(kwargs["_pool"], url or "", ResponseError("busy for too long"))
        retry = super().increment(method, url, response, *args, **kwargs)
        if response is not None:
            discard(response)  # which urllib3 would read to its end, perhaps without one
        return retry


def _with_deadline(kind: Any, *, seconds: float) -> Any:  # noqa: ANN401 -- classes of connections
    """Return the class of connections *kind*, on which the head of an answer has a deadline."""

    class Connection(kind):  # type: ignore[misc]  # of http or https
        def getresponse(self) -> urllib3.HTTPResponse:
            with ExitStack() as unless_returned:
                try:
                    with deadline(partial(_shut, self.sock), "", seconds):
                        response: urllib3.HTTPResponse = super().getresponse()
                        unless_returned.callback(response.close)  # a head that is cut may look complete
                except RemoteError as error:
                    raise _Late(f"no complete answer within {seconds:g} s") from error
                unless_returned.pop_all()
            return response

    return Connection


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection of an unwanted response back; close it if its body is long or slow."""
    try:
        with deadline(partial(_cut, response), "", _DISCARD_SECONDS):
            left = len(response.read(_DISCARD_LIMIT + 1)) > _DISCARD_LIMIT
    except (HTTPError, RemoteError):
        left = True
    if left:
        response.close()
    response.release_conn()


def _cut(response: urllib3.BaseHTTPResponse) -> None:
    """End the wait of another thread for more of the body."""
    with suppress(OSError, ValueError, RuntimeError):  # it has just been read to its end
        response.shutdown()


def fetch(url: str, reach: Reach, *, size_limit: int, timeout: float) -> bytes:
    """Return the body of *url*, as ``ask``.

    Raises:
        RemoteError: as ``ask``, or the answer is no success.
    """
    status, content = ask(Request("GET", url), reach, size_limit=size_limit, timeout=timeout)
    if status // 100 != _SUCCESS:
        raise RemoteError(f"GET {redact(url)}: {status}")
    return content


def ask(request: Request, reach: Reach, *, size_limit: int, timeout: float) -> tuple[int, bytes]:
    """Return the status and the body of the answer: one request, never repeated, never redirected.

    The proxies of the environment are used, as for every program that reads them. What a proxy may connect
    to is its own decision; *reach* is for connections without one.

    Args:
        size_limit: Bytes of the longest body.
        timeout: Seconds for all of it, however the server spends them.

    Raises:
        RemoteError: no answer in that time, or a body that is longer.
    """
    method, url, headers, body = request
    endpoint, each_timeout = endpoint_of(url), urllib3.Timeout(connect=timeout / 2, total=timeout)
    try:
        with (
            _manager(endpoint, reach, each_timeout) as manager,
            _deadline(manager.connection_from_url(url), url, timeout),
        ):
            response = manager.request(
                method, url, headers=headers, body=body,
                preload_content=False, decode_content=False, redirect=False, retries=False,
            )  # fmt: skip
            return response.status, Answer(response, url).read(size_limit)
    except (HTTPError, ValueError) as error:
        raise failure(method, url, error) from error


def _manager(endpoint: Endpoint, reach: Reach, timeout: urllib3.Timeout) -> urllib3.PoolManager:
    """Return what connects to *endpoint*, through the proxy that the environment names for it, if any."""
    proxy = getproxies().get(endpoint.scheme)
    if not proxy or proxy_bypass(endpoint.host):
        return limit(urllib3.PoolManager(timeout=timeout), reach)
    parsed = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
    headers = urllib3.make_headers(proxy_basic_auth=parsed.auth) if parsed.auth else None
    return urllib3.ProxyManager(parsed._replace(auth=None).url, proxy_headers=headers, timeout=timeout)


@contextmanager
def _deadline(pool: urllib3.HTTPConnectionPool, url: str, seconds: float) -> Iterator[None]:
    """Cut every connection of *pool* when the block takes longer.

    Raises:
        RemoteError: the block took longer.
    """
    connections, sockets = list[urllib3.connection.HTTPConnection](), list[socket.socket | None]()
    kind: Any = pool.ConnectionCls

    class Connection(kind):  # type: ignore[misc]  # of http or https, as the pool has it
        def connect(self) -> None:
            connections.append(self)
            super().connect()
            sockets.append(self.sock)  # which the connection forgets while a body is read to its end

    def cut() -> None:
        for sock in filter(None, [*sockets, *(connection.sock for connection in connections)]):
            _shut(sock)

    pool.ConnectionCls = Connection
    with deadline(cut, f"GET {url}", seconds):
        yield


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def failure(method: str, url: str, error: Exception) -> RemoteError:
    """Return the error for a request without a complete answer, without what must not be in messages."""
    if isinstance(error, (AddressRefused, _Late)):
        return RemoteError(f"{method} {redact(url)}: {error}")
    reason = getattr(error, "reason", None) or error
    return RemoteError(f"{method} {redact(url)}: {type(reason).__name__}: {mask(str(reason))[:200]}")
