"""Remote: requests to one registry of the V2 API, and its failures as errors of this one.

Every wait has an end, and only some threads wait at once: they are those of clients.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from threading import Lock
from time import monotonic
from typing import NamedTuple

from dualreg.errors import DigestInvalid, UpstreamFailed
from dualreg.image.digest import Digest
from dualreg.image.media_types import OCI_INDEX, strip_parameters
from dualreg.image.names import RepositoryName, Tag
from dualreg.messages import safe_line
from dualreg.remote.challenge import CredentialsRejected, TokenRefused, pulling
from dualreg.remote.client import Client, as_stored
from dualreg.remote.endpoint import Refused, RemoteError
from dualreg.remote.response import Response
from dualreg.upstreams.breaker import Breaker
from dualreg.upstreams.flights import Stream
from dualreg.waiting import Turns

#: Seconds after which rejected credentials are tried again, unless they change before.
_REJECTED_PAUSE = 60.0
#: Pages of a list that are read for one request.
_PAGES = 20
#: The first status after those of errors.
_END_OF_ERRORS = 600
#: Characters of an answer's text that are passed on.
_REASON = 300


class Fetched(NamedTuple):
    """A manifest as the registry sent it."""

    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob that the registry has: a BlobSource.

    Attributes:
        size: In bytes.
        request: Sends the request for its bytes from an offset on.
    """

    size: int
    request: Callable[[int], Stream]

    def open(self, offset: int) -> Stream:
        return self.request(offset)


@dataclass
class Remote:
    """Asks one registry, from any number of threads.

    Attributes:
        url: For messages.
        connect: Returns a client, with the credentials as they are now.
        credentials: Returns what is another value once the credentials have changed.
        slots: The threads that may wait for it.
    """

    url: str
    connect: Callable[[], Client]
    slots: Turns
    credentials: Callable[[], object] = lambda: None
    breaker: Breaker = field(default_factory=Breaker)
    _connected: tuple[object, Client] | None = None
    _rejected_at: float | None = None
    _lock: Lock = field(default_factory=Lock)

    def digest(self, name: RepositoryName, tag: Tag) -> Digest | None:
        """Return what a tag points at; None: there is no such tag.

        Raises:
            UpstreamFailed, ServerBusy.
        """
        response = self._get(name, f"manifests/{tag}", method="HEAD", headers=as_stored())
        if response is None:
            return None
        with suppress(DigestInvalid):
            return Digest.parse(response.headers.get("docker-content-digest", ""))
        fetched = self.manifest(name, tag)
        return fetched and Digest.of(fetched.body)

    def manifest(self, name: RepositoryName, reference: Tag | Digest) -> Fetched | None:
        """Return a manifest, whose digest is not verified; None: there is none; raises as ``digest``."""
        response = self._get(name, f"manifests/{reference}", headers=as_stored())
        if response is None:
            return None
        return Fetched(strip_parameters(response.headers.get("content-type", "")), response.body)

    def blob(self, name: RepositoryName, digest: Digest) -> RemoteBlob | None:
        """Return a blob; None: the repository does not have it; raises as ``digest``."""
        response = self._get(name, f"blobs/{digest}", method="HEAD")
        if response is None:
            return None
        return RemoteBlob(response.size("content-length"), partial(self._open, name, digest))

    def tags(self, name: RepositoryName) -> Iterator[str]:
        """Yield names of tags, page by page, in its order; none if there is no such repository.

        Raises:
            UpstreamFailed, ServerBusy.
        """
        for response in self._pages(name, "tags/list?n=1000"):
            with self.failures():
                names = response.texts("tags")
            yield from names

    def referrers(self, name: RepositoryName, subject: Digest) -> Iterator[str]:
        """Yield the digests of the manifests whose subject is *subject*; raises as ``tags``.

        A registry without this API has them in an index under a tag.

        Source: OCI distribution-spec v1.1, "Referrers Tag Schema".
        """
        fallback = f"{subject.algorithm}-{subject.hex}"[:128]
        pages = [*self._pages(name, f"referrers/{subject}")]
        if not pages:
            index = self._get(name, f"manifests/{fallback}", headers={"Accept": OCI_INDEX})
            pages = [index] if index else []
        for response in pages:
            with self.failures():
                entries = response.objects("manifests")
            yield from (str(entry.get("digest")) for entry in entries)

    def _pages(self, name: RepositoryName, path: str) -> Iterator[Response]:
        response = self._get(name, path)
        for _ in range(_PAGES):
            if response is None:
                return
            yield response
            response = self._get(name, response.next_page) if response.next_page else None

    def _open(self, name: RepositoryName, digest: Digest, offset: int) -> Stream:
        def ask() -> Stream:
            with self.failures():
                return self._client().stream(f"/v2/{name}/blobs/{digest}", scope=pulling(name), offset=offset)

        return self.breaker.call(ask)

    def _get(
        self, name: RepositoryName, path: str, *, method: str = "GET", headers: dict[str, str] | None = None
    ) -> Response | None:
        """Return the answer about a repository; None: not found.

        Args:
            path: Below the repository, or the absolute URL of a next page.
        """
        url = path if "://" in path else f"/v2/{name}/{path}"

        return self.call(lambda client: client.request(method, url, headers, scope=pulling(name)))

    def call(self, send: Callable[[Client], Response]) -> Response | None:
        """Return the answer to a request; None: not found.

        Raises:
            UpstreamFailed, ServerBusy.
        """

        def ask() -> Response:
            with self.failures():
                response = send(self._client())
            if response.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                raise self._failed(response.status, _reason(response), response.size("retry-after"))
            return response

        with self.slots.slot():
            response = self.breaker.call(ask)
        return response if response.status == HTTPStatus.OK else None

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Raise what goes wrong in the network, or with tokens and answers, as UpstreamFailed."""
        try:
            yield
        except TokenRefused as error:
            if isinstance(error, CredentialsRejected):
                self._rejected_at = monotonic()
            status = HTTPStatus.UNAUTHORIZED if error.status == HTTPStatus.OK else error.status
            raise self._failed(status, safe_line(error)) from error
        except Refused as error:
            raise self._failed(error.status, safe_line(error)) from error
        except RemoteError as error:
            raise self._failed(HTTPStatus.SERVICE_UNAVAILABLE, safe_line(error)) from error

    def _client(self) -> Client:
        """Return the client, made anew when credentials have changed, or were rejected a while ago."""
        now = self.credentials()
        with self._lock:
            again = self._rejected_at is not None and monotonic() - self._rejected_at > _REJECTED_PAUSE
            if self._connected is None or self._connected[0] != now or again:
                self._connected, self._rejected_at = (now, self.connect()), None
            return self._connected[1]

    def _failed(self, status: int, reason: str, retry_after: int = 0) -> UpstreamFailed:
        """Return the error of an answer, or of none; one that is no error is a bad answer."""
        is_error = HTTPStatus.BAD_REQUEST <= status < _END_OF_ERRORS
        return UpstreamFailed(
            upstream=self.url,
            status=status if is_error else HTTPStatus.BAD_GATEWAY,
            reason=reason[:_REASON],
            retry_after=retry_after or None,
        )


def _reason(response: Response) -> str:
    """Return what a registry says went wrong: the first message of its error, or that of the status."""
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        error = json.loads(response.body)["errors"][0]
        return safe_line(f"{error.get('message') or error['code']}")
    with suppress(ValueError):
        return HTTPStatus(response.status).phrase.lower()
    return "unexpected answer"
