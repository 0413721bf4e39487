"""Our own address, in everything that we tell clients: one host, one scheme, one path."""

import http.client
from collections.abc import Sequence
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from tests.apps import client_of
from tests.protocol.conftest import Served
from tests.protocol.exchange import v1_text, v2_codes

OLD = {"User-Agent": "docker/1.7.1 go/go1.4.2"}
HOSTS = [
    "registry.test",
    "registry.test:5000",
    "my_registry:5000",
    "fig_registry_1",
    "10.0.0.1:80",
    "[::1]:5000",
]
NO_HOSTS = ["a b", "a/b", 'a"b', "a,b", "user@host", "a:b", "a:123456", "[::1", "-a", "a?b"]


@pytest.mark.parametrize("public", ["", "https://hub.example", "https://hub.example:8443/registry/"])
@pytest.mark.parametrize("host", HOSTS)
def test_one_address(catalog: Catalog, store: MemoryStore, host: str, public: str) -> None:
    """V1's endpoint and cookie, Docker 1.7's Location, pages, and the realm: public_url, else the Host."""
    settings = Settings(public_url=public, auth="accounts")
    guarded = client_of(build_registry(catalog, store, settings), settings)
    url = public.rstrip("/") or f"http://{host.removesuffix(':80')}"
    sent = {"Host": host}
    challenge = guarded.get("/v2/", headers=sent).headers["WWW-Authenticate"]
    assert f'realm="{url}/token"' in challenge
    settings = Settings(public_url=public)
    client = client_of(build_registry(catalog, store, settings), settings)
    begun = client.put("/v1/repositories/team/app/", data=b"[]", headers=sent)
    assert begun.headers["X-Docker-Endpoints"] == urlsplit(url).netloc
    assert f"; Path={urlsplit(url).path}/v1;" in begun.headers["Set-Cookie"]
    assert client.get("/v1/_status", headers=sent).json["host"] == urlsplit(url).netloc
    upload = client.post("/v2/team/app/blobs/uploads/", headers=sent | OLD)
    assert upload.headers["Location"].startswith(f"{url}/v2/team/app/blobs/uploads/")
    for tag in ("1", "2"):
        client.put(
            f"/v2/team/app/manifests/{tag}", data=b"{}", content_type="application/x.test", headers=sent
        )
    linked = client.get("/v2/team/app/tags/list?n=1", headers=sent).headers["Link"]
    assert linked.startswith(f"<{urlsplit(url).path}/v2/")


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_names_nothing(catalog: Catalog, store: MemoryStore, host: str) -> None:
    """It is refused in the dialect of the path, unless public_url names the registry."""
    client = client_of(build_registry(catalog, store))
    assert v2_codes(client.get("/v2/", headers={"Host": host})) == ["UNSUPPORTED"]
    assert v1_text(client.put("/v1/repositories/a/b/", data=b"[]", headers={"Host": host}))
    for path in ("/_status", "/v1/_status"):
        assert client.get(path, headers={"Host": host}).status_code == 400
    settings = Settings(public_url="https://hub.example")
    known = client_of(build_registry(catalog, store, settings), settings)
    for path in ("/v2/", "/_status"):
        assert known.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("said", "https"),
    [
        ([("X-Forwarded-Proto", "https")], True),
        ([("X-Forwarded-Proto", "HTTPS")], True),
        ([("X-Forwarded-Proto", "https, http")], True),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")], True),
        ([("X-Forwarded-Scheme", "https")], True),
        ([("X-Forwarded-Ssl", "on")], True),
        ([("X-Forwarded-Proto", "http")], False),
        ([("X-Forwarded-Proto", "http"), ("X-Forwarded-Scheme", "https")], False),
        ([("Script_Name", "/elsewhere"), ("Path_Info", "/elsewhere")], False),
        ([], False),
    ],
)
def test_what_proxies_say(served: Served, said: Sequence[tuple[str, str]], *, https: bool) -> None:
    """Two proxies may each state the scheme; neither can set the path."""
    answer = _ask(served.host, [("Host", "my_registry:443"), *said])
    assert answer == (200, "my_registry" if https else "my_registry:443")


def _ask(host: str, headers: Sequence[tuple[str, str]]) -> tuple[int, str | None]:
    """Begin a V1 push; return the status and the endpoint that it is sent to."""
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.putrequest("PUT", "/v1/repositories/team/address/", skip_host=True)
        for name, value in (*headers, ("Content-Length", "2")):
            connection.putheader(name, value)
        connection.endheaders(b"[]")
        answer = connection.getresponse()
        return answer.status, answer.headers["X-Docker-Endpoints"]
