"""S3 library: boto3, which is optional and slow to import, how it is used here, and its errors."""

import os
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
