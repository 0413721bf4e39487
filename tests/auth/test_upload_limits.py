"""Limits of open uploads, by client: their number and their bytes, over both APIs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from dualreg.assembly import build_registry, upload_limits
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Uploads
from dualreg.errors import TooManyStagedBytes
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry import at_once, leases
from dualreg.registry.leases import LEASE
from dualreg.registry.upload_limits import UploadLimits
from dualreg.settings import Settings, SettingsInvalid
from dualreg.settings.values import parse_upload_limits
from dualreg.web import body
from dualreg.web.app import create_app
from tests import builders
from tests.apps import client_of
from tests.auth.conftest import Guarded, bearer
from tests.conftest import Clock, GuardedStore
from tests.protocol.exchange import REPOSITORY, v1_text, v2_codes

NAME = RepositoryName("team/app")
UPLOADS = f"/v2/{REPOSITORY}/blobs/uploads/"
DATA = bytes(range(256)) * 4096
Open = Callable[[str], FlaskClient]
Requests = dict[str, Callable[[FlaskClient, bytes], TestResponse]]


@pytest.fixture
def limited(catalog: Catalog, store: GuardedStore) -> Open:
    """Returns a client of a registry with the given ``upload_limits``, always over the same content."""

    def open_(limits: str) -> FlaskClient:
        settings = Settings(audit="off", upload_limits=limits)
        return client_of(build_registry(catalog, store, settings), settings)

    return open_


def rows(catalog: Catalog) -> int:
    """Return how many uploads the catalog has."""
    with catalog.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Uploads)) or 0


def by(address: str) -> dict[str, str]:
    """Return the header by which the proxy names its client."""
    return {"X-Forwarded-For": address}


def test_open_uploads_of_an_address(limited: Open, catalog: Catalog, clock: Clock) -> None:
    """A network has so many; others have their own; what is finished, cancelled or expired makes room."""
    client = limited("open=2")
    one, other, outside = by("2001:db8::1"), by("2001:db8::2"), by("2001:db8:0:1::1")
    first = client.post(UPLOADS, headers=one)
    second = client.post(UPLOADS, headers=other)
    assert (first.status_code, second.status_code) == (202, 202)
    for path in (UPLOADS, f"{UPLOADS}?mount={Digest.of(b'')}&from=x"):
        refused = client.post(path, headers=one)
        assert (refused.status_code, v2_codes(refused)) == (429, ["TOOMANYREQUESTS"])
        assert refused.headers["Retry-After"] == "10"
        assert "one client may have 2" in refused.text
    assert rows(catalog) == 2
    assert client.post(UPLOADS, headers=outside).status_code == 202
    assert client.put(f"{first.headers['Location']}?digest={Digest.of(b'')}").status_code == 201
    assert client.post(UPLOADS, headers=one).status_code == 202
    assert client.delete(second.headers["Location"]).status_code == 204
    assert client.post(UPLOADS, headers=one).status_code == 202
    assert client.post(UPLOADS, headers=one).status_code == 429
    clock.advance(timedelta(hours=24, seconds=1))
    assert client.post(UPLOADS, headers=one).status_code == 202


def test_open_uploads_of_an_account(catalog: Catalog, store: GuardedStore) -> None:
    """An account has its own, whatever address it comes from, and with which credentials."""
    settings = Settings(auth="accounts", audit="off", upload_limits="open=2")
    registry = build_registry(catalog, store, settings)
    client = create_app(settings, registry).test_client(use_cookies=False)
    guarded = Guarded(client, Accounts(catalog, Passwords(rounds=4)), registry, settings)
    basic = guarded.account("alice", ("team/*", "pull,push"))
    token = bearer(guarded.token("repository:team/app:pull,push", headers=basic))
    bob = guarded.account("bob", ("team/*", "pull,push"))
    path = "/v2/team/app/blobs/uploads/"
    statuses = [
        guarded.client.post(path, headers=login | by(address)).status_code
        for login, address in (
            (basic, "192.0.2.1"), (token, "192.0.2.2"), (basic, "192.0.2.3"), (token, "192.0.2.4"),
            (bob, "192.0.2.1"),
        )
    ]  # fmt: skip
    assert statuses == [202, 202, 429, 429, 202]


@pytest.mark.parametrize("limits", ["bytes=600k", "total=600k,bytes=0"])
def test_bytes_of_open_uploads(limited: Open, limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body ends at the limit, and what arrived counts; with room again, the upload goes on from there."""
    monkeypatch.setattr(body, "CHUNK_SIZE", 256 << 10)  # the piece that goes beyond it is lost
    client = limited(limits)
    held = client.patch(client.post(UPLOADS).headers["Location"], data=bytes(80 << 10)).headers["Location"]
    location = client.post(UPLOADS).headers["Location"]
    refused = client.patch(location, data=DATA)
    assert (refused.status_code, v2_codes(refused)) == (429, ["TOOMANYREQUESTS"])
    assert refused.headers["Retry-After"] == "10"
    holder = "one client" if limits.startswith("bytes") else "all clients together"
    assert f"{holder} may have {600 << 10}" in refused.text
    location = client.get(location).headers["Location"]
    assert location.endswith(f"?offset={512 << 10}")
    assert client.delete(held).status_code == 204
    assert client.patch(location, data=DATA[512 << 10 :]).status_code == 429
    raised = limited("open=1")
    location = raised.get(location).headers["Location"]
    rest = raised.patch(location, data=DATA[int(location.partition("=")[2]) :])
    assert raised.put(f"{rest.headers['Location']}&digest={Digest.of(DATA)}").status_code == 201


def test_the_end_of_an_upload_needs_no_room(limited: Open, catalog: Catalog) -> None:
    """An upload can be finished, or cancelled, when there are too many bytes."""
    client = limited("bytes=0")
    locations = [client.post(UPLOADS).headers["Location"] for _ in range(2)]
    grown = [client.patch(each, data=b"held").headers["Location"] for each in locations]
    full = limited("bytes=1")
    assert full.patch(grown[0], data=b"more").status_code == 429
    assert full.put(f"{grown[0]}&digest={Digest.of(b'held')}").status_code == 201
    assert full.delete(grown[1]).status_code == 204
    assert rows(catalog) == 0


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """Requests that bring a whole blob, which is counted from the first 100 KiB on."""
    monkeypatch.setattr(leases, "_UNCOUNTED", 100 << 10)
    image = builders.v1_chain(builders.layer({"a": b"1"}))[0]
    token = {"Authorization": f'Token repository="{REPOSITORY}"'}

    def put_layer(client: FlaskClient, data: bytes) -> TestResponse:
        assert client.put(f"/v1/images/{image.id}/json", data=image.json, headers=token).status_code == 200
        return client.put(f"/v1/images/{image.id}/layer", data=data, headers=token)

    def post(client: FlaskClient, data: bytes) -> TestResponse:
        return client.post(f"{UPLOADS}?digest={Digest.of(data)}", data=data)

    return {"V1": put_layer, "V2": post}


@pytest.mark.parametrize("dialect", ["V1", "V2"])
def test_bytes_that_arrive_in_one_request(
    limited: Open, catalog: Catalog, store: GuardedStore, requests: Requests, dialect: str
) -> None:
    """They count beside those of open uploads, until the request ends, and nothing is left of them."""
    send, full = requests[dialect], limited("bytes=600k")
    full.patch(full.post(UPLOADS).headers["Location"], data=bytes(80 << 10))
    refused = send(full, DATA)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "10"
    assert "one client may have" in (v1_text(refused) if dialect == "V1" else refused.text)
    assert (rows(catalog), len([*store.staged()])) == (1, 1)
    assert send(limited("bytes=2m"), DATA).status_code in (200, 201)
    assert rows(catalog) == 1


def test_processes_know_of_each_other(
    catalog: Catalog, store: GuardedStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives at one is known to the others once it renews its lease, until it is killed."""
    monkeypatch.setattr(at_once, "SHORT", -1)
    registries = [build_registry(catalog, store) for _ in range(2)]
    one, two = (replace(each.uploads, limits=UploadLimits(own=1000)) for each in registries)
    first, second = one.start(NAME, "a").id, two.start(NAME, "a").id

    def slow() -> Iterator[bytes]:
        yield bytes(600)
        clock.advance(LEASE / 2)
        yield bytes(100)
        with pytest.raises(TooManyStagedBytes):
            two.append(NAME, second, [bytes(200), bytes(200)])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.append(NAME, first, slow())
    assert two.status(NAME, second).offset == 200
    assert two.append(NAME, second, [bytes(800)]).offset == 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open=1000,bytes=50%,total=80%", (1000, 500, 800)), ("open=0", (None, 500, 800)),
        ("bytes=1k, total=0", (1000, 1024, None)), ("total=5", (1000, 500, 5)),
    ],
)  # fmt: skip
def test_the_setting(text: str, expected: tuple[int | None, ...]) -> None:
    """What it leaves out is as by default; shares are those of a disk; 0 is no limit."""
    shares = parse_upload_limits(text)
    found = (shares.open or None, shares.bytes(1000) or None, shares.total(1000) or None)
    assert found == expected
    assert upload_limits(Settings(upload_limits="open=7,bytes=8,total=9")) == UploadLimits(7, 8, 9)


@pytest.mark.parametrize(
    "text", [" ", "open", "open=", "open=x", "open=1,open=2", "bytes=1gb", "files=1", "1"]
)
def test_a_malformed_setting(text: str) -> None:
    """Limits that cannot be understood are an error that names the setting."""
    with pytest.raises(SettingsInvalid, match="upload_limits"):
        Settings.from_env({"DUALREG_UPLOAD_LIMITS": text})
