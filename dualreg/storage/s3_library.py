"""S3 library: boto3, which is optional and slow to import, how it is used here, and its errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from dualreg.storage.base import StoreUnavailable

#: Seconds for a connection, and for each byte of an answer.
_CONNECT_TIMEOUT, _READ_TIMEOUT = 5, 30
#: How often a request is tried, with growing pauses of random length in between.
_ATTEMPTS = 4
_MISSING = frozenset({"404", "NoSuchKey"})


def open_library(*, path_style: bool, connections: int) -> tuple[Any, Any]:
    """Return boto3, which is optional and slow to import, and how it is used here.

    Args:
        connections: How many to keep open.
        path_style: Name the bucket in the path of URLs, since its name may be no name of a host.

    Raises:
        StoreUnavailable: it is not installed.
    """
    try:
        import boto3  # noqa: PLC0415 -- optional
        from botocore.config import Config  # noqa: PLC0415 -- optional
    except ImportError as error:
        message = "a store in S3 needs boto3; install it with: pip install 'dualreg[s3]'"
        raise StoreUnavailable(message) from error
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=connections,
        # Content-MD5 says the same as these, and every object store knows it
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if path_style else "auto", "payload_signing_enabled": False},
    )
    return boto3, config


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
    except ImportError:
        return ()
    return BotoCoreError, ClientError, ResponseParserError


def code_of(error: BaseException | None) -> str:
    """Return what the object store calls an error; empty if it has not answered."""
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))
