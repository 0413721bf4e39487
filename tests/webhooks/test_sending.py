"""One attempt: what counts as delivered, what it may take, and where it may go."""

import gzip
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.catalog.webhooks import WebhookRow
from dualreg.remote.transport import Effort
from dualreg.webhooks import sending
from dualreg.webhooks.documents import Document, ping_document
from dualreg.webhooks.sending import Sender, parse_networks
from tests.conftest import Clock
from tests.test_tls import make_certificate
from tests.webhooks.receiver import SECRET, Handler, accept, receiving

#: 16 MiB.
BOMB = gzip.compress(bytes(1 << 24))
HERE = parse_networks("127.0.0.0/8")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have limits of time be short."""
    monkeypatch.setattr(sending, "_EFFORT", Effort(0, is_patient=False, connect=1, read=1, whole=1))
    monkeypatch.setattr(sending, "_BODY_SECONDS", 0.5)


def document() -> Document:
    """Return something to send."""
    return ping_document("cloudevents", "", "ping-1", Clock()())


def row(url: str, **files: str) -> WebhookRow:
    """Return a webhook."""
    return WebhookRow("a", url, "cloudevents", ("*",), ("push",), **files)


def drip(handler: Handler) -> None:
    """Send a head without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(40):
        handler.wfile.write(b"X-A: b\r\n")
        time.sleep(0.1)


def endless(handler: Handler) -> None:
    """Send a body without an end."""
    handler.answer(200, Content_Length=f"{1 << 40}")
    for _ in range(40):
        handler.wfile.write(b"x" * 100)
        time.sleep(0.1)


def large(handler: Handler) -> None:
    """Send more than is read."""
    handler.answer(200, b"y" * (1 << 20))


def bomb(handler: Handler) -> None:
    """Send little that becomes much."""
    handler.answer(200, BOMB, Content_Encoding="gzip")


def drop(handler: Handler) -> None:
    """Say nothing."""
    handler.close_connection = True


def answering(status: int, **headers: str) -> Callable[[Handler], None]:
    """Return what answers so."""
    return lambda handler: handler.answer(status, b"why", **headers)


@pytest.mark.parametrize(
    ("step", "status", "is_down", "retry_after"),
    [
        (answering(200), 200, None, 0),
        (answering(204), 204, None, 0),
        (answering(302, Location="/elsewhere"), 302, False, 0),
        (answering(307, Location="/elsewhere"), 307, False, 0),
        (answering(400), 400, False, 0),
        (answering(410), 410, False, 0),
        (answering(500), 500, False, 0),
        (answering(429, Retry_After="7"), 429, True, 7),
        (answering(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 503, True, 0),
        (answering(503, Retry_After="soon"), 503, True, 0),
        (answering(504), 504, True, 0),
        (drop, None, True, 0),
        (drip, None, True, 0),
        (endless, 200, None, 0),
        (large, 200, None, 0),
        (bomb, 200, None, 0),
    ],
)
def test_answers(
    step: Callable[[Handler], None],
    status: int | None,
    is_down: bool | None,  # noqa: FBT001 -- a parameter
    retry_after: float,
) -> None:
    """A status of success counts, whatever follows; no redirect is followed; all has an end."""
    with receiving(step) as receiver:
        attempt = Sender(row(receiver.url), HERE).send(document())
        assert receiver.seen == ["/hook"]
    assert attempt.status == status
    assert (attempt.failure and attempt.failure.is_down) == is_down
    assert (attempt.failure.retry_after if attempt.failure else 0) == retry_after
    assert attempt.seconds < 4
    assert len(attempt.body) <= 1024 * 4


@pytest.mark.parametrize(
    ("networks", "taken"),
    [("", 0), ("10.0.0.0/8", 0), ("127.0.0.1", 1), ("10.0.0.0/8, 127.0.0.0/8", 1), ("*", 1)],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_addresses(networks: str, taken: int, host: str) -> None:
    """What is not public is refused, by the address that was connected to, unless it is allowed."""
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        attempt = Sender(row(url), parse_networks(networks)).send(document())
        assert len(receiver.taken) == taken
    if not taken:
        assert attempt.failure
        assert attempt.failure.is_down
        assert "is not a public address" in attempt.failure.reason
        assert "webhook_networks" in attempt.failure.reason


def test_secrets_are_read_again(tmp_path: Path) -> None:
    """When the file changes; several sign together, in base64 or as they are; the last good ones stay."""
    secret, authorization = tmp_path / "secret", tmp_path / "authorization"
    secret.write_text("whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u\n")
    authorization.write_text("Bearer abc\n")
    with receiving() as receiver:
        sender = Sender(
            row(receiver.url, secret_file=str(secret), authorization_file=str(authorization)), HERE
        )
        assert sender.send(document()).failure is None
        secret.write_text("another secret, which is long\nwhsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u\n")
        assert sender.send(document()).failure is None
        secret.write_text("short")
        assert sender.send(document()).failure is None
        first, *later = receiver.taken
    assert first.is_signed(SECRET)
    assert not first.is_signed(b"another secret, which is long")
    assert all(each.is_signed(SECRET) and each.is_signed(b"another secret, which is long") for each in later)
    assert first.headers["authorization"] == "Bearer abc"
    assert abs(int(first.headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot load"), ("", "expected a secret"), ("short", "shorter than"), ("whsec_!!", "not base64")],
)
def test_secrets_that_cannot_be_used(tmp_path: Path, content: str | None, says: str) -> None:
    """Nothing is sent without its signature; the reason names the file."""
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    with receiving() as receiver:
        attempt = Sender(row(receiver.url, secret_file=str(secret)), HERE).send(document())
        assert receiver.seen == []
    assert attempt.failure
    assert attempt.failure.is_down
    assert says in attempt.failure.reason
    assert str(secret) in attempt.failure.reason


def test_tls(tmp_path: Path) -> None:
    """A receiver's certificate is verified, by the authorities that the webhook names."""
    certificate, key = make_certificate(tmp_path, "own")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiving(accept, context) as receiver:
        refused = Sender(row(receiver.url), HERE).send(document())
        assert refused.failure
        assert "certificate" in refused.failure.reason.lower()
        assert Sender(row(receiver.url, ca=str(certificate)), HERE).send(document()).failure is None
        assert len(receiver.taken) == 1
        missing = Sender(row(receiver.url, ca=str(tmp_path / "none")), HERE).send(document())
        assert missing.failure
        assert "none" in missing.failure.reason
