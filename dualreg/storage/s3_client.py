"""S3 client: requests to an object store that end in time, and are not sent while it does not answer."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from threading import Lock, local
from time import monotonic
from typing import Any, TypeVar

from dualreg.storage.base import StoreUnavailable
from dualreg.storage.circuit import Circuit
from dualreg.storage.s3_library import PlainBody, failures, open_client

Result = TypeVar("Result")

#: Seconds for each byte of an answer; and of one to a request that copies up to ``s3._COPIED_AT_ONCE``.
ANSWER, COPY = 10.0, 30.0
#: Seconds for a look whether the object store answers again.
_LOOK = 3.0
#: Seconds for a request with all its attempts; one that may take longer has one attempt.
_BUDGET = 20.0
#: What is left of these for an attempt to be worth it, in seconds.
_LEAST = 1.0
#: Seconds from one look at the files of credentials to the next.
_LOOKS = 1.0
#: Requests of one store and process that run in parallel for one that waits, and connections kept open.
PARALLEL, _CONNECTIONS = 16, 64
#: Seconds for which a URL works that was signed: as long as at the reference registry.
_SIGNED = 1200
#: The first status that says that the server fails.  Source: RFC 9110, section 15.6.
_SERVER_ERROR = 500

#: Opens a client, as ``open_client`` at a certain place.
_Open = Callable[..., tuple[Any, tuple[Path, ...]]]


class S3Client:
    """The requests of a process to a bucket."""

    def __init__(
        self, bucket: str, endpoint: str | None, region: str | None, profile: str | None, waiting: int
    ) -> None:
        """Send none yet.

        Args:
            endpoint: Where the object store is; None: at Amazon, or where the library's own settings say.
            profile: As ``Bucket.profile``.
            waiting: How many threads wait for it at once, besides those that are ``exempt``.
        """
        self._bucket = bucket
        self._is_plain = (endpoint or "").startswith("http://")
        self.circuit = Circuit(waiting)
        self._attempts = _Attempts(self.circuit)
        self._clients = _Clients(partial(open_client, endpoint, region, profile), self._prepare)

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for requests that run in parallel. What runs in one must not wait for another one."""
        return ThreadPoolExecutor(PARALLEL, thread_name_prefix="s3", initializer=self.circuit.exempt)

    @contextmanager
    def asking(self, what: str, timeout: float = ANSWER) -> Iterator[Any]:
        """Yield the library's client for a request, each of whose attempts waits up to *timeout* seconds.

        Raises:
            StoreUnavailable: also for all that goes wrong in the block.
        """
        with failures(what), self.circuit.place():
            self.circuit.admit(self._look)
            with self._attempts.lasting(timeout):
                yield self._clients.get()

    def body(self, answer: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- botocore's, or ours
        """Return the stream of the bytes of an answer: a PlainBody, if the kernel can move them."""
        return PlainBody.of(answer["Body"]) if self._is_plain else answer["Body"]

    def read(self, what: str, stream: Any, size: int | None) -> bytes:  # noqa: ANN401 -- botocore's
        """Return up to *size* bytes of the body of an answer; None: all that are left.

        Raises:
            StoreUnavailable: none arrive, or it breaks off.
        """
        return self._receive(what, lambda: bytes(stream.read(size)))

    def move(self, what: str, stream: PlainBody, pipe: int, size: int) -> int:
        """Move up to *size* bytes of the body of an answer into a pipe, which is empty; return how many.

        Raises:
            StoreUnavailable: none arrive, or it breaks off.
        """
        return self._receive(what, lambda: stream.move(pipe, size, ANSWER))

    def _receive(self, what: str, receive: Callable[[], Result]) -> Result:
        began = monotonic()
        try:
            with failures(what), self.circuit.place():
                received = receive()
        except StoreUnavailable as error:
            self.circuit.failed(began, error)
            raise
        self.circuit.answered()
        return received

    def sign(self, operation: str, given: Mapping[str, str]) -> str:
        """Return the URL of a request that needs no credentials for some minutes, without sending any.

        Raises:
            StoreUnavailable: there are none to sign it by.
        """
        with failures(given["Key"]):
            client = self._clients.get(find=False)
            return str(client.generate_presigned_url(operation, Params={**given}, ExpiresIn=_SIGNED))

    def close(self) -> None:
        """Close all connections, and end the threads. The client can be used again."""
        if pool := self.__dict__.pop("pool", None):
            pool.shutdown()
        self._clients.close()

    def _prepare(self, client: Any, find: bool) -> None:  # noqa: ANN401, FBT001 -- botocore's
        """Watch the requests of a new client; *find* the bucket by it."""
        self._attempts.watch(client)
        if find:
            with failures(f"s3://{self._bucket}"):
                client.head_bucket(Bucket=self._bucket)

    def _look(self) -> None:
        """Find out whether the object store answers again."""
        with self._attempts.lasting(_LOOK, only=True):
            self._clients.get().head_bucket(Bucket=self._bucket)


class _Attempts:
    """Each time that requests are sent: in the time that is left, unless the circuit has opened meanwhile.

    What comes of it is noted in the circuit.
    """

    def __init__(self, circuit: Circuit) -> None:
        """Ask, and tell, *circuit*."""
        self._circuit = circuit
        self._mine = local()

    @contextmanager
    def lasting(self, timeout: float, *, only: bool = False) -> Iterator[None]:
        """Give each attempt of a request in the block up to *timeout* seconds; if *only*, there is one."""
        self._mine.timeout, self._mine.budget = timeout, timeout if only else max(timeout, _BUDGET)
        self._mine.end = monotonic() + self._mine.budget
        yield

    def watch(self, client: Any) -> None:  # noqa: ANN401 -- boto3 makes its classes when it runs
        """Let all requests of a client be within ``lasting``."""
        client.meta.events.register("before-send.s3", self._begin)
        client.meta.events.register("needs-retry.s3", self._end)

    def _begin(self, request: Any, **_: Any) -> None:  # noqa: ANN401 -- botocore's
        """Set the timeout of an attempt.

        Raises:
            StoreUnavailable: the circuit is open, or too little time is left. The library tries no more then.
        """
        self._circuit.require()
        left = self._mine.end - monotonic()
        if left < _LEAST:
            raise StoreUnavailable(f"the object store has not answered in {self._mine.budget:.0f} seconds")
        request.context["read_timeout"] = min(self._mine.timeout, left)
        self._mine.began = monotonic()

    def _end(self, response: Any, caught_exception: Exception | None, **_: Any) -> None:  # noqa: ANN401 -- botocore's
        """Note what came of an attempt; it is the library that decides whether there is another one."""
        if isinstance(caught_exception, StoreUnavailable):
            return
        if caught_exception is not None:
            self._circuit.failed(self._mine.began, caught_exception)
        elif response[0].status_code >= _SERVER_ERROR:
            self._circuit.failed(self._mine.began, f"status {response[0].status_code}")
        else:
            self._circuit.answered()


class _Clients:
    """The client of the library; another one once a file has changed from which credentials come.

    The library itself reads such a file once. What expires by itself, such as the login of a machine's role,
    it renews.
    """

    def __init__(self, opened: _Open, prepare: Callable[[Any, bool], object]) -> None:
        """Open none yet; *prepare* is called with each, and whether to find the bucket, before it is used."""
        self._open, self._prepare = opened, prepare
        self._lock = Lock()
        self._client: Any = None
        self._files: tuple[Path, ...] = ()
        self._stamps: list[object] = []
        self._next_look = 0.0

    def get(self, *, find: bool = True) -> Any:  # noqa: ANN401 -- boto3 makes its classes when it runs
        """Return the client; threads that find another one opening it go on with the last one.

        Args:
            find: Find the bucket first, by which a mistake in the settings is noticed.
        """
        if self._client is not None and monotonic() < self._next_look:
            return self._client
        if not self._lock.acquire(blocking=self._client is None):
            return self._client
        try:
            self._next_look = monotonic() + _LOOKS
            stamps = [*map(_stamp, self._files)]
            if self._client is None or stamps != self._stamps:
                client, self._files = self._open(timeout=ANSWER, connections=_CONNECTIONS)
                self._prepare(client, find and self._client is None)
                self._client, self._stamps = client, [*map(_stamp, self._files)]
            return self._client
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _stamp(file: Path) -> object:
    """Return what is another value once a file has changed."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
