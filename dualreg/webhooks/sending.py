"""Sending: one attempt to have a receiver take a document.

Receivers are reached at public addresses, and at those that the operator allows. What counts is the address
that was connected to. Redirects are not followed. No answer is waited for, or read, without an end.
"""

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Network, IPv6Network, ip_network

from dualreg import __version__
from dualreg.catalog.webhooks import WebhookRow
from dualreg.messages import safe_line
from dualreg.registry.outbox import Failure
from dualreg.remote.endpoint import endpoint_of
from dualreg.remote.reach import PublicReach
from dualreg.remote.transport import Authorization, Effort, HttpTransport, Request
from dualreg.webhooks.documents import Document
from dualreg.webhooks.showing import hide, shown_url
from dualreg.webhooks.signing import Credentials

#: An attempt takes 5 seconds to connect to each address, 10 for the head of the answer, and 5 for its body.
_EFFORT = Effort(repeats=0, is_patient=False, connect=5, read=10, whole=10)
_BODY_SECONDS = 5.0
#: Bytes of an answer that are read, to show them.
_EXCERPT = 1024
#: Statuses of a receiver that is down or busy, whatever it is sent.
_DOWN = (429, 502, 503, 504)
_SUCCESS, _REDIRECT = 2, 3

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of sending a document.

    Attributes:
        status: What was answered; None: there was no answer.
        failure: Why the receiver does not have it; None: it has.
        body: The beginning of the answer.
    """

    status: int | None
    seconds: float
    failure: Failure | None = None
    body: str = ""


def parse_networks(text: str) -> Networks:
    """Return the networks of the setting ``webhook_networks``, which was checked."""
    entries = filter(None, map(str.strip, text.split(",")))
    every = ("0.0.0.0/0", "::/0")
    names = [name for entry in entries for name in (every if entry == "*" else (entry,))]
    return tuple(ip_network(name, strict=False) for name in names)


@dataclass
class Sender:
    """Sends documents to one webhook, from any number of threads.

    Attributes:
        networks: Addresses that receivers may have besides public ones.
    """

    webhook: WebhookRow
    networks: Networks = ()
    _credentials: Credentials | None = field(default=None, repr=False)
    _transport: HttpTransport | None = field(default=None, repr=False)

    def prepare(self) -> None:
        """Read the files of the webhook, unless that was done.

        Raises:
            ValueError: one cannot be read, or has something else.
            OSError: the authorities cannot be read, or the URL is invalid.
        """
        webhook = self.webhook
        if self._credentials is None:
            self._credentials = Credentials.read(webhook.secret_file, webhook.authorization_file)
        if self._transport is None:
            if webhook.ca:
                open(webhook.ca, "rb").close()  # noqa: PTH123 -- urllib3 does not name the file
            reach = PublicReach(endpoint_of(webhook.url), networks=self.networks)
            self._transport = HttpTransport(reach, webhook.ca or None, repeat_failed=False, effort=_EFFORT)

    def send(self, document: Document) -> Attempt:
        """Send a document; return what came of it, whatever happens."""
        began = time.monotonic()
        try:
            self.prepare()
            return self._send(document, began)
        except (OSError, ValueError) as error:  # RemoteError is one, too
            seconds = time.monotonic() - began
            reason = hide(safe_line(error), self.webhook.url)[:300]
            return Attempt(None, seconds, Failure(reason, is_down=True))

    def _send(self, document: Document, began: float) -> Attempt:
        assert self._credentials is not None  # noqa: S101 -- prepared
        assert self._transport is not None  # noqa: S101 -- likewise
        own = {"Content-Type": document.content_type, "User-Agent": f"dualreg/{__version__}"}
        headers = {**own, **self._credentials.headers(document, int(time.time()))}
        url = self.webhook.url
        request = Request("POST", url, headers, document.body)
        answer = self._transport.send(request, Authorization("", endpoint_of(url)))
        response = answer.response
        body = safe_line(answer.excerpt(_EXCERPT, _BODY_SECONDS).decode(errors="replace"))
        failure = _failure(url, response.status, response.headers.get("Retry-After", ""))
        return Attempt(response.status, time.monotonic() - began, failure, body)


def _failure(url: str, status: int, retry_after: str) -> Failure | None:
    if status // 100 == _SUCCESS:
        return None
    reason = f"POST {shown_url(url)}: {status}"
    if status // 100 == _REDIRECT:
        reason += "; redirects are not followed: add the webhook with its final URL"
    return Failure(reason, status in _DOWN, _seconds(retry_after))


def _seconds(retry_after: str) -> float:
    """Return the seconds that a ``Retry-After`` means; 0: none.  Source: RFC 9110, section 10.2.3."""
    if retry_after.isascii() and retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return 0.0
