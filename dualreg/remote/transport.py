"""Transport: requests sent, again where that helps, and on to where they are redirected."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, Self
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError

from dualreg.remote.errors import RemoteError
from dualreg.remote.origins import Endpoint, endpoint_of, redact

#: What can be sent.
Content = BinaryIO | Iterable[bytes] | bytes | None
#: Statuses after which it is worth to try again.
_BUSY = (429, 500, 502, 503, 504)
#: Seconds that are waited at most: whoever is told to come back later than that is told so at once.
_PATIENCE = 120
_REDIRECTS = 5
_SAME_METHOD = (307, 308)


class Request(NamedTuple):
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: Content = None

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent again."""
        return self.body is None or isinstance(self.body, bytes)

    def redirected(self, response: urllib3.BaseHTTPResponse) -> Self | None:
        """Return what is to be sent on after *response*; None: it is final."""
        place = response.get_redirect_location()
        if self.method not in ("GET", "HEAD"):
            place = self.body is None and response.status in _SAME_METHOD and place
        return self._replace(url=urljoin(self.url, place)) if place else None


class Answer(NamedTuple):
    """What came back, not read yet, and from where."""

    response: urllib3.BaseHTTPResponse
    url: str

    def failure(self, error: Exception) -> RemoteError:
        """Return what to say if it breaks off."""
        return _failure("GET", self.url, error)


class Authorization(NamedTuple):
    """A value of ``Authorization``, and whom alone it is said to; empty: nothing is said."""

    value: str
    to: Endpoint


class Transport:
    """Sends requests, for any number of threads."""

    def __init__(self, ca: str | None) -> None:
        """Trust the authorities in the file *ca*; None: the system's."""
        self._again = _Retry(
            total=5, connect=2, read=2, backoff_factor=0.2, status_forcelist=_BUSY, allowed_methods=None,
            raise_on_status=False,
        )  # fmt: skip
        self._once = _Retry(connect=2, read=False, allowed_methods=("GET", "HEAD"))
        self._pool = urllib3.PoolManager(
            maxsize=32, timeout=urllib3.Timeout(connect=20, read=120), ca_certs=ca
        )

    def send(self, request: Request, secret: Authorization) -> Answer:
        """Send a request; return the answer, whatever its status.

        What can be sent again is, if the other side is busy or breaks off; redirects are followed.

        Raises:
            WireError: there is no answer, or no end of redirects.
        """
        for _ in range(_REDIRECTS + 1):
            response = self._send(request, secret)
            further = request.redirected(response)
            if further is None:
                return Answer(response, request.url)
            response.drain_conn()
            request = further
        raise RemoteError(f"{request.method} {redact(request.url)}: redirected too often")

    def _send(self, request: Request, secret: Authorization) -> urllib3.BaseHTTPResponse:
        meant = endpoint_of(request.url) == secret.to and secret.value
        try:
            return self._pool.request(
                request.method,
                request.url,
                headers={**request.headers, **({"Authorization": secret.value} if meant else {})},
                body=request.body,
                preload_content=False,
                redirect=False,
                retries=self._again if request.is_repeatable else self._once,
            )
        except HTTPError as error:
            raise _failure(request.method, request.url, error) from error


class _Retry(urllib3.Retry):
    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        *given: Any,  # noqa: ANN401 -- as urllib3 has it
        **further: Any,  # noqa: ANN401 -- likewise
    ) -> Self:
        """See Retry. Who locks us out for long, as for failed logins, has answered."""
        if response is not None and (self.get_retry_after(response) or 0) > _PATIENCE:
            raise MaxRetryError(further["_pool"], url or "", ResponseError("it is busy for long"))
        return super().increment(method, url, response, *given, **further)


def _failure(method: str, url: str, error: Exception) -> RemoteError:
    reason = getattr(error, "reason", None) or error
    return RemoteError(f"{method} {redact(url)}: {type(reason).__name__}: {str(reason)[:200]}")
