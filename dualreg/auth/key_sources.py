"""Where the trusted public keys of other issuers are read: a file or a URL, while the registry runs."""

import json
import logging
import time
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from dualreg.auth.trust import Key, TrustedKeys
from dualreg.messages import safe_line
from dualreg.reloading import ReloadingFile
from dualreg.remote.endpoint import endpoint_of, is_loopback, redact
from dualreg.remote.reach import Reach
from dualreg.remote.transport import Request, ask, fetch

#: Seconds after which keys are fetched again.
_MAX_AGE = 600.0
#: Seconds after which they are fetched again because a token names an unknown key.
_MAX_AGE_UNKNOWN_KEY = 30.0
#: Seconds that a fetch may take, and the bytes of the longest document.
_TIMEOUT = 10.0
#: Seconds of a first fetch that others wait for: a stalled issuer takes no more of their threads' time.
_PATIENCE = 3.0
_DOCUMENT_LIMIT = 1 << 20
_log = logging.getLogger(__name__)


class KeySource(Protocol):
    """The keys that an issuer signs with."""

    def key_for(self, header: dict[str, Any]) -> Key | None:
        """Return the trusted key that a token's *header* names; None if there is none."""


class FileKeys:
    """The keys of a file, a JSON Web Key Set or PEM, reloaded when it changes."""

    def __init__(self, path: Path) -> None:
        """Read *path*.

        Raises:
            ValueError: it cannot be read, or contains no usable key.
        """
        self.file = ReloadingFile(lambda: TrustedKeys.parse(path.read_bytes()), path)

    def key_for(self, header: dict[str, Any]) -> Key | None:
        return self.file.get().key_for(header)


class UrlKeys:
    """The keys of a URL, fetched when first needed; a failed fetch is logged, and keeps the last keys."""

    def __init__(self, url: str, *, issuer: str | None = None) -> None:
        """Fetch from *url*.

        Args:
            issuer: *url* is the configuration of this OpenID Connect issuer, which names the URL of its keys.
        """
        self._url = url
        self._issuer = issuer
        self._lock = Lock()
        self._keys = TrustedKeys()
        self._attempted = -_MAX_AGE
        self._began: float | None = None

    @classmethod
    def of_issuer(cls, issuer: str) -> Self:
        """Return the keys of an OpenID Connect issuer, which its configuration names."""
        return cls(configuration_url(issuer), issuer=issuer)

    def key_for(self, header: dict[str, Any]) -> Key | None:
        self._refresh(_MAX_AGE)
        key = self._keys.key_for(header)
        if key is None:  # it may be new
            self._refresh(_MAX_AGE_UNKNOWN_KEY)
            key = self._keys.key_for(header)
        return key

    def _refresh(self, max_age: float) -> None:
        """Fetch the keys unless that was attempted within *max_age* seconds.

        Only one thread fetches; the others go on with the keys that there are, if there are any.
        """
        if time.monotonic() - self._attempted < max_age or not self._lock.acquire(timeout=self._patience()):
            return
        try:
            if time.monotonic() - self._attempted >= max_age:
                self._attempt()
        finally:
            self._lock.release()

    def _patience(self) -> float:
        """Return for how many seconds to wait for another thread that fetches: none if there are keys."""
        if self._keys.keys:
            return 0.0
        now = time.monotonic()
        return max((self._began or now) + _PATIENCE - now, 0.0)

    def _attempt(self) -> None:
        """Fetch the keys. Until that has ended it was not attempted, so others wait if there are none yet."""
        self._began = time.monotonic()
        try:
            self._keys = TrustedKeys.parse(self._fetch())
        except (OSError, ValueError, RecursionError) as error:
            _log.error("cannot fetch keys from %s: %s", redact(self._url), safe_line(error))
        finally:
            self._attempted, self._began = time.monotonic(), None

    def _fetch(self) -> bytes:
        """Return the document with the keys, which the issuer may have at another address like its own."""
        reach = Reach(endpoint_of(self._url), neighbours=True)
        document = fetch_document(self._url, reach)
        if self._issuer is None:
            return document
        configuration = json.loads(document)
        if not isinstance(configuration, dict) or configuration.get("issuer") != self._issuer:
            raise ValueError("the configuration is that of another issuer")
        return fetch_document(str(configuration.get("jwks_uri")), reach)


def configuration_url(issuer: str) -> str:
    """Return where an issuer has its configuration.  Source: OpenID Connect Discovery 1.0, section 4."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def fetch_document(url: str, reach: Reach) -> bytes:
    """Return the body of *url*, which is https, or http on this machine; redirects are not followed.

    Raises:
        RemoteError: no complete answer with success in time, or a redirect, or too many bytes.
        ValueError: another scheme.
    """
    require_secure(url)
    return fetch(url, reach, size_limit=_DOCUMENT_LIMIT, timeout=_TIMEOUT)


def send(request: Request, reach: Reach, timeout: float) -> tuple[int, bytes]:
    """Return the status and the body that the issuer answers, as ``fetch_document``.

    Args:
        timeout: Seconds for all of it.

    Raises:
        RemoteError: no complete answer in time, or too many bytes.
        ValueError: another scheme.
    """
    require_secure(request.url)
    return ask(request, reach, size_limit=_DOCUMENT_LIMIT, timeout=timeout)


def require_secure(url: str) -> None:
    """Raise ValueError unless *url* is https, or http on this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError(f'invalid URL "{redact(url)}": not https')
