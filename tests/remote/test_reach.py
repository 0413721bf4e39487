"""Where the answers of a server may lead: not into networks that only this machine can reach."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from urllib3.util import connection

from dualreg.auth.key_sources import UrlKeys
from dualreg.remote.client import Client
from dualreg.remote.endpoint import Endpoint, RemoteError
from dualreg.remote.reach import AddressRefused, Reach
from tests.migrate.fronts import Hostile, asking, hostile, issuing, status

OWN = Endpoint("https", "hub.example", 443)


@pytest.fixture
def server() -> Iterator[Hostile]:
    """A registry that answers as the test says."""
    with hostile() as own:
        yield own


@pytest.fixture
def inner() -> Iterator[Hostile]:
    """A server that only this machine can reach, at a port of its own."""
    with hostile() as own:
        yield own


def passes(reach: Reach, host: str, port: int, address: str) -> bool:
    """Return whether a connection is permitted."""
    try:
        reach.check(host, port, address)
    except AddressRefused:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.6", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1%lo"),
        *("fd00::1", "ff02::1", "::ffff:10.0.0.6", "::ffff:127.0.0.1", "64:ff9b::a00:6", "2002:a00:6::1"),
        *("::10.0.0.6", "::ffff:0:10.0.0.6", "64:ff9b:1::a00:6", "fec0::1", "5f00::1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """Another host there is out of reach, unless it is allowed by name; the operator's own is not."""
    assert not passes(Reach(OWN), "cdn.example", 443, address)
    assert not passes(Reach(OWN, {"other.example"}), "cdn.example", 443, address)
    assert passes(Reach(OWN, {"cdn.example"}), "cdn.example", 9000, address)
    assert passes(Reach(OWN), "hub.example", 443, address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_public_addresses(address: str) -> None:
    """Registries redirect to stores anywhere."""
    assert passes(Reach(OWN), "cdn.example", 8443, address)


def test_the_servers_own_host() -> None:
    """Its other ports are in reach, but on this machine; none is at a private address after a public one."""
    assert passes(Reach(OWN), "hub.example", 9000, "10.0.0.5")
    assert not passes(Reach(OWN), "hub.example", 9000, "127.0.0.1")
    assert passes(Reach(OWN, own_ports=True), "hub.example", 9000, "127.0.0.1")
    rebound = Reach(OWN)
    assert passes(rebound, "hub.example", 443, "93.184.216.34")
    assert not passes(rebound, "hub.example", 443, "10.0.0.5")


def test_neighbours() -> None:
    """An issuer at a private address may name keys at another one, but not on this machine."""
    reach = Reach(OWN, neighbours=True)
    assert not passes(reach, "keys.example", 6443, "10.0.0.6")
    assert passes(reach, "hub.example", 443, "10.96.0.1")
    assert passes(reach, "keys.example", 6443, "10.0.0.6")
    assert not passes(reach, "keys.example", 6443, "127.0.0.1")
    assert not passes(reach, "keys.example", 6443, "169.254.169.254")


def redirected(client: Client, server: Hostile, url: str) -> None:
    """Follow a redirect."""
    server.answers["/x"] = [status(302, Location=url)]
    client.request("GET", "/x")


def streamed(client: Client, server: Hostile, url: str) -> None:
    """Read a blob that is redirected."""
    server.answers["/x"] = [status(307, Location=url)]
    client.stream("/x").close()


def paged(client: Client, server: Hostile, url: str) -> None:
    """Read the next page of a list."""
    server.answers["/x"] = [status(200, b"{}", Link=f'<{url}>; rel="next"')]
    client.request("GET", client.request("GET", "/x").next_page)


def uploaded(client: Client, server: Hostile, url: str) -> None:
    """Send a blob to the location of its upload."""
    server.answers["/x"] = [status(202, Location=url)]
    location = client.request("POST", "/x").headers["location"]
    client.request("PUT", location, body=iter([b"secret"]))


def challenged(client: Client, server: Hostile, url: str) -> None:
    """Ask the token server that a challenge names."""
    server.answers["/x"] = [asking(f'Bearer realm="{url}"')]
    client.request("GET", "/x")


WAYS = (redirected, streamed, paged, uploaded, challenged)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "inner.example", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_lead_inside(
    server: Hostile,
    inner: Hostile,
    way: Callable[[Client, Hostile, str], None],
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None is followed, by address or by a name that resolves to one; the error names what permits it."""
    resolve = socket.getaddrinfo

    def getaddrinfo(name: Any, *rest: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if name == "inner.example" else name, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = inner.url.replace("127.0.0.1", host) + "/inner"
    inner.answers |= {"/inner": [status(200, b"{}")], "/inner?service=": [issuing(300)]}
    if way is challenged and host == "127.0.0.1":  # the port of a token server on its own host is not fixed
        challenged(Client(server.url), server, url)
        return
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1 is not a public .*--allow-redirect") as raised:
        way(Client(server.url), server, url)
    assert str(raised.value).endswith(host.strip("[]"))
    assert inner.seen == []
    way(Client(server.url, redirect_hosts=(host.strip("[]"),)), server, url)
    assert len(inner.seen) == 1


@pytest.mark.parametrize("address", ["10.0.0.6", "169.254.169.254", "93.184.216.34"])
def test_keys_at_another_place(
    server: Hostile, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The configuration of an issuer does not lead to another kind of address, unless that is public."""
    connected = list[tuple[str, int]]()

    def connect(place: tuple[str, int], *rest: Any, **options: Any) -> socket.socket:
        connected.append(place)
        return Connected(address) if place[0] == "keys.example" else create(place, *rest, **options)

    class Connected(socket.socket):
        def __init__(self, peer: str) -> None:
            super().__init__()
            self.peer = peer

        def getpeername(self) -> Any:
            return (self.peer, 443)

    create = connection.create_connection
    monkeypatch.setattr(connection, "create_connection", connect)
    body = b'{"issuer": "x", "jwks_uri": "https://keys.example/keys"}'
    server.answers["/c"] = [status(200, body)]
    assert UrlKeys(f"{server.url}/c", issuer="x").key_for({"kid": "a"}) is None
    assert connected[-1] == ("keys.example", 443)
    assert ("is not a public address" in caplog.text) is (address != "93.184.216.34")
