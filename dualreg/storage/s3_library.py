"""S3 library: boto3, which is optional and slow to import, how it is used here, and its errors."""

import io
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from dualreg.storage.base import StoreUnavailable

#: Seconds for a connection, and for 128 KiB of what is sent.
_CONNECT_TIMEOUT = 5
#: How often a request is tried, with growing pauses of random length in between.
_ATTEMPTS = 4
_MISSING = frozenset({"404", "NoSuchKey"})
#: Bytes that are moved through this process at once: few enough for a pipe of one page, which is what a user
#: gets who has many pipes.  Source: pipe(7).
_THROUGH = 4 << 10


def open_client(
    endpoint: str | None, region: str | None, profile: str | None, *, timeout: float, connections: int
) -> tuple[Any, tuple[Path, ...]]:
    """Return a client of S3, and the files in which the library looks for credentials, if there are any.

    Args:
        endpoint: Where the object store is; None: at Amazon, or where the library's own settings say. With
            one, URLs name the bucket in their path, since its name may be no name of a host.
        profile: Whose credentials of the library's own settings are used; None: as these say.
        timeout: Seconds for each byte of an answer.
        connections: How many to keep open.

    Raises:
        StoreUnavailable: it is not installed.
    """
    try:
        import botocore.session  # noqa: PLC0415 -- optional
        from boto3.session import Session  # noqa: PLC0415 -- optional
        from botocore.config import Config  # noqa: PLC0415 -- optional
    except ImportError as error:
        message = "a store in S3 needs boto3; install it with: pip install 'dualreg[s3]'"
        raise StoreUnavailable(message) from error
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=connections,
        # Content-MD5 says the same as these, and every object store knows it
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto", "payload_signing_enabled": False},
    )
    core = botocore.session.Session(profile=profile)
    names = map(core.get_config_variable, ("credentials_file", "config_file"))
    files = tuple(Path(os.path.expanduser(name)) for name in names)  # noqa: PTH111 -- as the library does
    region = region or core.get_config_variable("region") or "us-east-1"
    client = Session(botocore_session=core).client("s3", region, endpoint_url=endpoint, config=config)
    return client, files


class PlainBody:
    """The body of an answer that came without TLS, so that the kernel can move its bytes."""

    def __init__(self, body: Any) -> None:  # noqa: ANN401 -- botocore's
        """Begin where *body* is, of which nothing has been read."""
        self._body, self._raw = body, body._raw_stream  # noqa: SLF001 -- it has no other name
        #: The most bytes that may have been received, with the head, and not been read.
        self._buffered = io.DEFAULT_BUFFER_SIZE

    @classmethod
    def of(cls, body: Any) -> Any:  # noqa: ANN401 -- as above
        """Return *body* as one of these; itself if it comes in chunks, whose marks are not its bytes."""
        is_known = body._raw_stream.length_remaining is not None  # noqa: SLF001 -- as above
        return cls(body) if is_known else body

    def read(self, size: int | None) -> bytes:
        """Return up to *size* bytes, or all that are left, as the library does."""
        if not self._buffered:
            return bytes(self._raw.read1(self._part(size)))
        self._buffered = io.DEFAULT_BUFFER_SIZE
        return bytes(self._body.read(size))

    def move(self, pipe: int, size: int, timeout: float) -> int:
        """Move up to *size* bytes into a pipe, which is empty; return how many, none if the body broke off.

        What the library may have received, and the last bytes, pass through this process. So the library
        knows the end, and uses the connection again.

        Args:
            timeout: Seconds to wait for the first of them.

        Raises:
            StoreUnavailable: none arrive. So does what the library raises.
        """
        left: int = self._raw.length_remaining
        if self._buffered or left <= _THROUGH:
            return os.write(pipe, self._read_through(self._part(min(size, _THROUGH))))
        source, poll = self._raw.fileno(), select.poll()
        poll.register(source, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise StoreUnavailable(f"no byte within {timeout:.0f} seconds")
        try:
            moved = os.splice(source, pipe, min(size, left - 1))
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        self._raw.length_remaining = left - moved
        return moved

    def _read_through(self, size: int) -> bytes:
        """Return up to *size* bytes: of those that the library has, or else by one call to the kernel."""
        data: bytes = self._raw.read1(size)
        self._buffered = max(self._buffered - len(data), 0) if len(data) == size else 0
        return data

    def _part(self, size: int | None) -> int:
        left: int = self._raw.length_remaining
        return left if size is None else min(size, left)

    def close(self) -> None:
        """Close the connection, unless all has been read."""
        self._body.close()


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Raise StoreUnavailable for all that the library raises in the block, or that an answer lacks.

    It is an OSError for the callers, who know nothing of S3.
    """
    try:
        yield
    except KeyError as error:
        raise StoreUnavailable(f"{what}: the answer has no {error.args[0]}") from error
    except _errors() as error:
        raise StoreUnavailable(f"{what}: {error}") from error


def unless_missing(request: Callable[..., dict[str, Any]], **given: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- what boto3 takes
    """Return the answer to a request; None if there is no such object."""
    try:
        return request(**given)
    except _errors() as error:
        if code_of(error) in _MISSING:
            return None
        raise


@cache
def _errors() -> tuple[type[Exception], ...]:
    """Return the base classes of what the library raises; none if it is not installed."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- optional
        from botocore.parsers import ResponseParserError  # noqa: PLC0415 -- optional
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- what reading an answer raises, of TLS too
    except ImportError:
        return ()
    return BotoCoreError, ClientError, ResponseParserError, HTTPError


def code_of(error: BaseException | None) -> str:
    """Return what the object store calls an error; empty if it has not answered."""
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))
