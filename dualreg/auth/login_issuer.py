"""Login issuer: people prove who they are to an OpenID Connect issuer, and it proves that to us.

Source: OpenID Connect Core 1.0, sections 3.1 and 5.3; RFC 7636 (PKCE); RFC 8628 (device authorization);
RFC 9207 (who sends a browser back); RFC 9700 (best practices).
"""

import hmac
import json
import logging
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.client import OAuth2Client
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from dualreg.auth.issuer_metadata import UNUSABLE, Endpoints, IssuerMetadata
from dualreg.auth.key_sources import send
from dualreg.auth.tokens import TokenInvalid, Verifier, verified_header
from dualreg.errors import IssuerUnavailable, LoginRefused
from dualreg.messages import safe_line
from dualreg.remote.endpoint import RemoteError
from dualreg.remote.reach import Reach
from dualreg.remote.transport import Request
from dualreg.waiting import WorkSlots

_log = logging.getLogger(__name__)
#: Seconds that a request to the issuer may take: somebody waits for the answer, and so does a thread.
_TIMEOUT = 8.0
#: Requests to an issuer at once in each process, threads that wait for that, and for how many seconds.
_AT_ONCE, _WAITING, _PATIENCE = 2, 2, 4.0
#: Characters of what an issuer says that people are shown.
_SHOWN = 200
#: Characters of codes that are sent to the issuer.
_CODE_LIMIT = 4096
_SUCCESS = 200
#: What the token endpoint answers while nobody has confirmed a device yet.  Source: RFC 8628, section 3.5.
_PENDING = ("authorization_pending", "slow_down")

Claims = Mapping[str, Any]


class Attempt(NamedTuple):
    """A login that a browser has begun, which alone can complete it.

    Attributes:
        issuer: The name of the issuer in the settings.
        oauth_state: Which login an answer is that of.
        nonce: Which login an ID token is for.
        verifier: That of PKCE, which shows that the code is for who began.
    """

    issuer: str
    oauth_state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls, issuer: str) -> "Attempt":
        """Return a new one, with secrets that nobody can guess."""
        return cls(issuer, *(secrets.token_urlsafe(32) for _ in range(3)))


class Pending(NamedTuple):
    """Somebody has not yet confirmed a device; *slower* asks to wait longer from now on."""

    slower: bool


@dataclass(frozen=True)
class LoginIssuer:
    """One issuer, as its client.

    Attributes:
        name: Of the table in the settings.
        title: What people know it by.
        secret: Returns the client's secret; empty: it is a public client.
        verifier: Verifies the signature, issuer, audience and times of ID tokens.
        wanted: Claims that the userinfo endpoint is asked for if the ID token lacks one of them.
    """

    name: str
    title: str
    client_id: str
    secret: Callable[[], str]
    scopes: tuple[str, ...]
    verifier: Verifier
    metadata: IssuerMetadata
    wanted: frozenset[str]
    slots: WorkSlots = field(default_factory=lambda: WorkSlots(_AT_ONCE, _WAITING, _PATIENCE))

    def authorization_url(self, attempt: Attempt, redirect_uri: str) -> str:
        """Return the URL at which the browser logs in.

        Raises:
            IssuerUnavailable, ServerBusy.
        """
        with self._asking() as (endpoints, client):
            url, _ = client.create_authorization_url(
                endpoints.authorization,
                state=attempt.oauth_state,
                code_verifier=attempt.verifier,
                redirect_uri=redirect_uri,
                nonce=attempt.nonce,
            )
        return str(url)

    def complete(self, attempt: Attempt, answer: Mapping[str, str], redirect_uri: str) -> Claims:
        """Return what the issuer says of who logged in.

        Args:
            attempt: The login that this browser began.
            answer: The query with which the browser was sent back.
            redirect_uri: As for ``authorization_url``.

        Raises:
            LoginRefused: the answer is not that of the attempt, or the issuer or its token is not right.
            IssuerUnavailable, ServerBusy.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.oauth_state.encode()):
            raise LoginRefused(reason="this is not the login that this browser began last; begin again")
        with self._asking() as (endpoints, client):
            self._require_own(endpoints, answer)
            if error := answer.get("error"):
                raise _refused(error, answer.get("error_description", ""))
            token = client.fetch_token(
                endpoints.token,
                grant_type="authorization_code",
                code=_code(answer.get("code", "")),
                redirect_uri=redirect_uri,
                code_verifier=attempt.verifier,
            )
            return self._claims(endpoints, token, attempt.nonce)

    def begin_device(self) -> Mapping[str, Any]:
        """Return what RFC 8628 has in the answer to a device that wants to log in.

        Raises:
            LoginRefused: the issuer does not log in devices.
            IssuerUnavailable, ServerBusy.
        """
        with self._asking() as (endpoints, client):
            if not endpoints.device:
                raise LoginRefused(reason=f"{self.title} does not log in devices; make a key in a browser")
            scope = " ".join(self.scopes)
            found = client.fetch_token(endpoints.device, grant_type="", scope=scope, client_id=self.client_id)
        return found if isinstance(found, dict) else {}

    def poll_device(self, code: str) -> Claims | Pending:
        """Return what the issuer says of who confirmed the device with this code, if somebody has.

        Raises:
            LoginRefused, IssuerUnavailable, ServerBusy: as ``complete``.
        """
        with self._asking() as (endpoints, client):
            try:
                token = client.fetch_token(
                    endpoints.token, grant_type=DEVICE_CODE_GRANT_TYPE, device_code=_code(code)
                )
            except AuthlibBaseError as error:
                if error.error in _PENDING:
                    return Pending(error.error == _PENDING[1])
                raise
            return self._claims(endpoints, token, None)

    @contextmanager
    def _asking(self) -> Iterator[tuple[Endpoints, Any]]:
        """Hold a slot for the block, with a client for one login; what fails in it is an error of ours."""
        with self.slots.slot():
            endpoints, secret = self.metadata.get(), self.secret()
            method = "client_secret_post" if endpoints.posts_secret else "client_secret_basic"
            client = OAuth2Client(
                _Session(self.metadata.reach),
                self.client_id,
                secret or None,
                token_endpoint_auth_method=method if secret else "none",
                scope=" ".join(self.scopes),
                code_challenge_method="S256",
            )
            client.register_client_auth_method(("client_secret_basic", _add_basic))
            try:
                yield endpoints, client
            except AuthlibBaseError as error:
                raise _refused(str(error.error), str(error.description or "")) from error
            except (RemoteError, *UNUSABLE) as error:
                _log.warning("the login issuer %s: %s", self.metadata.issuer, safe_line(error))
                raise IssuerUnavailable from error

    def _require_own(self, endpoints: Endpoints, answer: Mapping[str, str]) -> None:
        """Raise LoginRefused if another issuer sent the browser back.  Source: RFC 9207, section 2.4."""
        named = answer.get("iss")
        if named != self.metadata.issuer and (named is not None or endpoints.names_itself):
            raise LoginRefused(reason=f"the answer is not that of {self.metadata.issuer}")

    def _claims(self, endpoints: Endpoints, token: Mapping[str, Any], nonce: str | None) -> Claims:
        """Return the claims of the ID token, with those that only the userinfo endpoint has.

        Raises:
            LoginRefused: the ID token is not right.
        """
        access = token.get("access_token")
        try:
            text = str(token.get("id_token", ""))
            params = {"nonce": nonce, "client_id": self.client_id, "access_token": access}
            claims = CodeIDToken(self.verifier.verify(text), verified_header(text), params=params)
            leeway = int(self.verifier.leeway.total_seconds())
            claims.validate(now=int(self.verifier.now().timestamp()), leeway=leeway)
        except (TokenInvalid, JoseError, TypeError) as error:
            raise LoginRefused(reason=f"the ID token is refused: {safe_line(error)[:_SHOWN]}") from error
        if endpoints.userinfo and isinstance(access, str) and not self.wanted <= claims.keys():
            return {**self._userinfo(endpoints.userinfo, access, claims["sub"]), **claims}
        return dict(claims)

    def _userinfo(self, url: str, access: str, subject: str) -> Claims:
        """Return the claims of the userinfo endpoint, which have to be of the same subject."""
        headers = {"Authorization": f"Bearer {access}", "Accept": "application/json"}
        status, content = send(Request("GET", url, headers), self.metadata.reach, _TIMEOUT)
        found = json.loads(content) if status == _SUCCESS else None
        if not isinstance(found, dict):
            raise ValueError(f"the userinfo endpoint answered {status}, or no JSON object")  # noqa: TRY004 -- as broken JSON
        if found.get("sub") != subject:
            raise LoginRefused(reason="the userinfo endpoint answered for somebody else")
        return found


class _Answer(NamedTuple):
    """An answer as Authlib reads it."""

    status_code: int
    content: bytes

    def json(self) -> object:
        """Return the document."""
        return json.loads(self.content)

    def raise_for_status(self) -> None:
        """Raise ValueError: called for answers that cannot be used."""
        raise ValueError(f"the issuer answered {self.status_code}, or no JSON object")


class _Session(NamedTuple):
    """Sends requests for Authlib: bounded, and only to where the issuer may lead."""

    reach: Reach

    def post(self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str], auth: Any) -> _Answer:  # noqa: ANN401 -- of Authlib
        """Return the answer to a form."""
        form = urlencode({name: value for name, value in data.items() if value})
        url, added, body = auth.prepare("POST", url, dict(headers), form)
        return _Answer(*send(Request("POST", url, added, body.encode()), self.reach, _TIMEOUT))


def _add_basic(
    client: Any,  # noqa: ANN401 -- of Authlib
    _method: str,
    url: str,
    headers: Mapping[str, str],
    body: str,
) -> tuple[str, Mapping[str, str], str]:
    """Return a request with the client's id and secret, which Authlib leaves as they are.

    Source: RFC 6749, section 2.3.1: both are encoded as in forms.
    """
    text = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    return url, {**headers, "Authorization": f"Basic {b64encode(text.encode()).decode()}"}, body


def _code(text: str) -> str:
    """Return a code that a client sent, to be sent on.

    Raises:
        LoginRefused: it is none.
    """
    if not text or len(text) > _CODE_LIMIT or not text.isascii() or not text.isprintable():
        raise LoginRefused(reason="there is no code in the answer")
    return text


def _refused(code: str, description: str) -> LoginRefused:
    """Return the error for what an issuer refuses, in its own words."""
    said = f"{code}: {description}" if description else code
    return LoginRefused(reason=f"the issuer says {safe_line(said)[:_SHOWN]}")
