"""Issuer metadata: where an OpenID Connect issuer sends browsers, and where it answers requests.

Source: OpenID Connect Discovery 1.0, section 3; RFC 8414; RFC 9207, section 3.
"""

import json
import logging
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple, Self

from dualreg.auth.key_sources import configuration_url, fetch_document, require_secure
from dualreg.errors import IssuerUnavailable
from dualreg.messages import safe_line
from dualreg.remote.endpoint import RemoteError, endpoint_of
from dualreg.remote.reach import Reach

_log = logging.getLogger(__name__)
#: Seconds after which metadata are fetched again, and after which a failed fetch is tried again.
_MAX_AGE, _RETRY = 600.0, 15.0
#: Errors of documents whose members are not of the types that they should be.
UNUSABLE = (ValueError, TypeError, OverflowError, RecursionError)


class Endpoints(NamedTuple):
    """What the metadata of an issuer say.

    Attributes:
        authorization: Where browsers are sent.
        token, userinfo, device: Where it answers requests; empty: it has none.
        posts_secret: Whether it takes the client's secret in the body only.
        names_itself: Whether it says who it is when it sends browsers back.
    """

    authorization: str
    token: str
    userinfo: str
    device: str
    posts_secret: bool
    names_itself: bool

    @classmethod
    def parse(cls, document: bytes, issuer: str) -> Self:
        """Return what the document says.

        Raises:
            ValueError: it is that of another issuer, or lacks something, or names what is not https.
        """
        found = json.loads(document)
        if not isinstance(found, dict) or found.get("issuer") != issuer:
            raise ValueError("the metadata are those of another issuer")
        authorization, token = _url(found, "authorization_endpoint"), _url(found, "token_endpoint")
        if not authorization or not token:
            raise ValueError("the metadata name no authorization_endpoint, or no token_endpoint")
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        posts = "client_secret_post" in methods and "client_secret_basic" not in methods
        named = found.get("authorization_response_iss_parameter_supported") is True
        userinfo, device = _url(found, "userinfo_endpoint"), _url(found, "device_authorization_endpoint")
        return cls(authorization, token, userinfo, device, posts, named)


def _url(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name) or ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a URL")  # noqa: TRY004 -- a ValueError by contract
    if value:
        require_secure(value)
    return value


class IssuerMetadata:
    """The metadata of an issuer, fetched when first needed; a failed fetch keeps the last ones."""

    def __init__(self, issuer: str) -> None:
        """Fetch those of *issuer*, a URL."""
        self.issuer = issuer
        self.reach = Reach(endpoint_of(issuer), neighbours=True)
        self._url = configuration_url(issuer)
        self._lock = Lock()
        self._endpoints: Endpoints | None = None
        self._due = 0.0

    def get(self) -> Endpoints:
        """Return the metadata, at most ten minutes old if the issuer answers.

        Only one thread fetches; the others go on with the last ones, or wait for it if there are none.

        Raises:
            IssuerUnavailable: there are none.
        """
        if time.monotonic() >= self._due and self._lock.acquire(blocking=self._endpoints is None):
            try:
                if time.monotonic() >= self._due:
                    self._fetch()
            finally:
                self._lock.release()
        if self._endpoints is None:
            raise IssuerUnavailable
        return self._endpoints

    def _fetch(self) -> None:
        try:
            self._endpoints = Endpoints.parse(fetch_document(self._url, self.reach), self.issuer)
            self._due = time.monotonic() + _MAX_AGE
        except (RemoteError, *UNUSABLE) as error:
            _log.warning("the login issuer %s: %s", self.issuer, safe_line(error))
            self._due = time.monotonic() + _RETRY
