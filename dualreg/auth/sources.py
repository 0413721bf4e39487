"""Sources: where the public keys of others come from, a file or a URL, read again while the registry runs."""

import json
import logging
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from ipaddress import ip_address
from pathlib import Path
from threading import Lock
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from dualreg.auth.files import ReloadingFile
from dualreg.auth.trust import Key, TrustedKeys

#: Seconds after which keys are fetched again; how often at most, if a token names a key that is not there.
_FRESH = 600.0
_AGAIN = 30.0
_TIMEOUT = 10.0
_BYTES_LIMIT = 1 << 20
_log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Finds the key that a token says it was signed with."""

    def choose(self, header: dict[str, Any]) -> Key | None:
        """Return the trusted key that a token's *header* leads to; None if it leads to none."""


class FileKeys:
    """Keys of a file: a JSON Web Key Set, or PEM; read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            ValueError: it cannot be used.
        """
        self._file = ReloadingFile(lambda: TrustedKeys.parse(path.read_bytes()), path)

    def choose(self, header: dict[str, Any]) -> Key | None:
        """Return the trusted key that a token's *header* leads to."""
        return self._file.get().choose(header)


class UrlKeys:
    """Keys of a URL, fetched when first needed; while they cannot be fetched again, those known count."""

    def __init__(self, url: str, *, issuer: str | None = None) -> None:
        """Fetch from *url*.

        Args:
            issuer: *url* is this OpenID Connect issuer's configuration, which says where its keys are.
        """
        self._url = url
        self._issuer = issuer
        self._lock = Lock()
        self._keys = TrustedKeys()
        self._tried = -_FRESH

    def choose(self, header: dict[str, Any]) -> Key | None:
        """Return the trusted key that a token's *header* leads to; it may have been added lately."""
        self._refresh(_FRESH)
        key = self._keys.choose(header)
        if key is None:
            self._refresh(_AGAIN)
            key = self._keys.choose(header)
        return key

    def _refresh(self, age: float) -> None:
        """Fetch the keys if that was not done within *age* seconds.

        Only who needs the very first ones waits for somebody else who fetches.
        """
        if time.monotonic() - self._tried < age or not self._lock.acquire(blocking=not self._keys.keys):
            return
        try:
            if time.monotonic() - self._tried >= age:
                self._tried = time.monotonic()
                self._keys = TrustedKeys.parse(fetch(self._location()))
        except (OSError, ValueError, HTTPException) as error:
            _log.error("no keys from %s: %s", self._url, error)
        finally:
            self._lock.release()

    def _location(self) -> str:
        if self._issuer is None:
            return self._url
        told = json.loads(fetch(self._url))
        if not isinstance(told, dict) or told.get("issuer") != self._issuer:
            raise ValueError("the configuration is another issuer's")
        return str(told.get("jwks_uri"))


def fetch(url: str) -> bytes:
    """Return the body of *url*.

    Only over HTTPS, but for this very machine; a redirect is not followed: it would be trusted no less.

    Raises:
        OSError, HTTPException: it cannot be had.
        ValueError: another scheme, or more than a key set can be.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError(f"{url} is not https")
    opener, deadline, body = urllib.request.build_opener(_NoRedirect()), time.monotonic() + _TIMEOUT, b""
    with opener.open(url, timeout=_TIMEOUT / 2) as answer:
        while chunk := answer.read1(_BYTES_LIMIT):
            body += chunk
            if len(body) > _BYTES_LIMIT:
                raise ValueError(f"{url} is too long")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} takes too long")
    return body


def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, however it is connected."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error."""

    def redirect_request(  # noqa: PLR0917 -- the library's
        self,
        req: urllib.request.Request,  # noqa: ARG002 -- the library's
        fp: IO[bytes],  # noqa: ARG002 -- the library's
        code: int,  # noqa: ARG002 -- the library's
        msg: str,  # noqa: ARG002 -- the library's
        headers: HTTPMessage,  # noqa: ARG002 -- the library's
        newurl: str,  # noqa: ARG002 -- the library's
    ) -> None:
        """Follow nothing."""
        return
