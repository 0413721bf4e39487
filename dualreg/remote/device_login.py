"""Device login: a terminal gets an API key of a registry by a code that somebody enters in a browser.

Source: RFC 8628, sections 3.2 and 3.5; the registry's own ``/login/device``.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from dualreg.remote.endpoint import RemoteError, endpoint_of, is_loopback, redact
from dualreg.remote.reach import Reach
from dualreg.remote.transport import Request, ask

#: Seconds between two questions if the registry names none, and what is added if it wants fewer.
_INTERVAL, _SLOWER = 5, 5
#: Seconds that a code is valid if the registry does not say, and at most.
_LIFETIME = 600
#: Seconds for an answer, and its longest.
_TIMEOUT, _SIZE_LIMIT = 20.0, 64 << 10
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class Code(NamedTuple):
    """What somebody enters in a browser.

    Attributes:
        complete: A URI that contains the code; empty: there is none.
        device: What the terminal asks with.
        interval: Seconds between two questions.
        lifetime: Seconds until the code expires.
    """

    user: str
    uri: str
    complete: str
    device: str
    interval: int
    lifetime: int

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Return the code in an answer.

        Raises:
            ValueError: there is none.
        """
        needed = [document.get(name) for name in ("user_code", "verification_uri", "device_code")]
        if not all(isinstance(each, str) and each for each in needed):
            raise ValueError("the answer has no code")
        user, uri, device = map(str, needed)
        complete = str(document.get("verification_uri_complete") or "")
        interval = max(int(document.get("interval") or _INTERVAL), 1)
        return cls(user, uri, complete, device, interval, int(document.get("expires_in") or _LIFETIME))


class MadeKey(NamedTuple):
    """The key that was made."""

    account: str
    id: str
    secret: str


@dataclass(frozen=True)
class DeviceLogin:
    """A login at one registry.

    Attributes:
        url: Its URL, without a slash at its end.
        issuer: By which of its issuers; empty: the only one.
        sleep: Waits for a number of seconds.
    """

    url: str
    issuer: str = ""
    sleep: Callable[[float], None] = time.sleep

    def begin(self) -> Code:
        """Return the code to enter.

        Raises:
            RemoteError: the registry does not answer, or refuses.
        """
        status, document = self._post("/login/device", {})
        if status == HTTPStatus.NOT_FOUND:
            raise RemoteError(f"{redact(self.url)}: this registry has no login by an issuer")
        if status != HTTPStatus.OK:
            raise self._refused(document, status)
        try:
            return Code.parse(document)
        except (ValueError, TypeError) as error:
            raise RemoteError(f"{redact(self.url)}: {error}") from error

    def wait(self, code: Code, *, note: str, expires: str = "") -> MadeKey:
        """Return the key, once somebody has entered the code.

        Args:
            note: What the key is for.
            expires: A duration such as ``90d``; empty: as long as the login is renewed.

        Raises:
            RemoteError: nobody has, in time; or the registry refuses.
        """
        form = {"device_code": code.device, "note": note, "expires": expires}
        interval, left = code.interval, min(code.lifetime, 3 * _LIFETIME)
        while left > 0:
            self.sleep(interval)
            left -= interval
            status, document = self._post("/login/device/key", form)
            if status == HTTPStatus.OK:
                return MadeKey(*(str(document.get(name)) for name in ("account", "key", "secret")))
            error = document.get("error")
            if error == "slow_down":
                interval += _SLOWER
            elif error not in ("authorization_pending", "temporarily_unavailable"):
                raise self._refused(document, status)
        raise RemoteError("the code was not entered in time; begin again")

    def _post(self, path: str, form: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        endpoint = endpoint_of(self.url)
        if endpoint.scheme != "https" and not is_loopback(endpoint.host):
            raise RemoteError(f"{redact(self.url)}: not https, by which alone a key may be sent")
        given = {"issuer": self.issuer, **form}
        body = urlencode({name: value for name, value in given.items() if value}).encode()
        request = Request("POST", f"{self.url}{path}", _FORM, body)
        status, content = ask(request, Reach(endpoint), size_limit=_SIZE_LIMIT, timeout=_TIMEOUT)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        return status, document if isinstance(document, dict) else {}

    def _refused(self, document: Mapping[str, Any], status: int) -> RemoteError:
        said = document.get("error_description") or document.get("error") or f"answered {status}"
        return RemoteError(f"{redact(self.url)}: {str(said)[:300]}")
