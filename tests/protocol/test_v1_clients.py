"""Clients of V1 are recorded by address, version and repository, and shown to the operator."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, activity
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.programs import unannounced
from tests.properties.registries import push_v1

DOCKER = "docker/1.5.0 go/go1.3.3 git-commit/a8a31ef kernel/3.13.0 os/linux arch/amd64"


@pytest.fixture(autouse=True)
def compared() -> None:
    """Every request is answered once: those that are compared would count three times."""


def seen(registry: Registry) -> list[tuple[str, str, str, int, int]]:
    """Return what was noted: address, version, repository, requests, refusals."""
    registry.clients.flush()
    ever = registry.blobs.state.catalog.now().replace(year=2000)
    rows = registry.clients.list(ever)
    return sorted((row.address, row.version, row.repository, row.requests, row.refused) for row in rows)


@pytest.mark.parametrize(
    ("path", "repository"),
    [
        ("/v1/repositories/a/b/images", "a/b"),
        ("/v1/repositories/library/x/tags", "library/x"),
        ("/v1/repositories/BAD/tags", ""),
        ("/v1/nothing/here", ""),
        ("/v1/images/" + "a" * 64 + "/json", "c/d"),
    ],
)
@pytest.mark.parametrize("mode", ["on", "off"])
def test_requests_are_noted_with_their_repository(
    registry: Registry, path: str, repository: str, mode: str
) -> None:
    """From the URL, else from the token; also when V1 is off, and then as refused."""
    client = client_of(registry, v1=mode)
    token = 'Token signature=0,repository="c/d",access=read' if "images/a" in path else ""
    for _ in range(2):
        client.get(path, headers={"User-Agent": DOCKER, "Authorization": token})
    assert seen(registry) == [("127.0.0.1", "docker/1.5.0", repository, 2, 2 if mode == "off" else 0)]


@pytest.mark.parametrize("path", ["/v1/_ping", "/v1/search?q=x", "/v2/", "/"])
def test_what_todays_clients_ask_is_not_noted(registry: Registry, path: str) -> None:
    """``docker search`` pings and searches over V1 to this day."""
    client_of(registry).get(path, headers={"User-Agent": DOCKER})
    assert seen(registry) == []


@pytest.mark.parametrize("release", ["1.6.2", "1.9.1", "1.10.3", "17.05.0-ce", "18.09.1"])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_fallback_in_vain_is_not_noted(registry: Registry, release: str, mode: str) -> None:
    """A V2 client is recorded only if V1 has the image that V2 lacks."""
    chain = builders.v1_chain(builders.layer({"a": b"1"}))
    push_v1(registry, RepositoryName("a/b"), Tag("1"), chain)
    client, headers = client_of(registry, v1=mode), {"User-Agent": f"docker/{release} go/go1.8"}
    for path in ("no/where/images", "a/b/images", "a/b/tags", "a/b/tags/none"):
        client.get(f"/v1/repositories/{path}", headers=headers)
    client.get(f"/v1/images/{'0' * 64}/ancestry", headers=headers)
    client.get("/v1/users/", headers=headers)
    assert seen(registry) == []
    client.get(f"/v1/images/{chain[0].id}/ancestry", headers=headers)
    assert len(seen(registry)) == (mode == "on")
    client.put("/v1/repositories/a/b/", json=[], headers=headers)
    assert ("a/b" in {row[2] for row in seen(registry)}) is True


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("docker/0.6.0 go/go1.1", "docker/0.6.0"),
        ("Go 1.1 package http", "Go 1.1 package http"),
        ("", "unknown"),
        ("x" * 500, "x" * 100),
        ("a\x1b[31mred", "a[31mred"),
    ],
)
def test_versions_are_short_and_harmless(registry: Registry, agent: str, version: str) -> None:
    """What a client calls itself ends up in a terminal."""
    client_of(registry).get("/v1/users/", headers={"User-Agent": agent})
    assert [row[1] for row in seen(registry)] == [version]


def test_visitors_fill_no_table(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up names are counted together; recorded clients and others are counted as before."""
    monkeypatch.setattr(activity, "_NAMED_LIMIT", 10)
    client = client_of(registry)

    def visit(agent: str, path: str, address: str = "127.0.0.1") -> None:
        client.get(path, headers={"User-Agent": agent}, environ_overrides={"REMOTE_ADDR": address})

    for _ in range(2):
        visit(DOCKER, "/v1/users/")
        for number in range(30):
            visit(f"docker/1.0.{number}", "/v1/users/")
            visit(DOCKER, f"/v1/repositories/a/{number}/images")
            if number % 7 == 0:
                seen(registry)  # as it is written every few seconds
    visit("docker/1.2.0", "/v1/users/", "10.0.0.1")
    rows = seen(registry)
    assert sum(row[3] for row in rows) == 2 * 61 + 1
    assert ("127.0.0.1", "docker/1.5.0", "", 2, 0) in rows
    assert ("10.0.0.1", "docker/1.2.0", "", 1, 0) in rows
    assert len(rows) <= 10 + 20 + 1 + 1
    assert {row[1] for row in rows} > {"others"}


@pytest.mark.parametrize(
    ("trusted", "headers", "address"),
    [
        ("", {}, "127.0.0.1"),
        ("", {"X-Forwarded-For": "6.6.6.6"}, "127.0.0.1"),
        ("127.0.0.1", {"X-Forwarded-For": "6.6.6.6, 10.0.0.7"}, "10.0.0.7"),
        ("127.0.0.1, 10.0.0.7", {"X-Forwarded-For": "6.6.6.6, 10.0.0.8, 10.0.0.7"}, "10.0.0.8"),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7, <script>"}, "127.0.0.1"),
        ("127.0.0.0/8,10.0.0.0/24", {"X-Forwarded-For": "6.6.6.6, 10.0.1.8, 10.0.0.7"}, "10.0.1.8"),
        ("127.0.0.1,fd00::/8", {"X-Forwarded-For": "6.6.6.6, fe80::1, fd00::2"}, "fe80::1"),
        ("10.0.0.0/8", {"X-Forwarded-For": "6.6.6.6"}, "127.0.0.1"),
        ("*", {"X-Forwarded-For": "fe80::1, 10.0.0.7"}, "fe80::1"),
        ("*", {"X-Forwarded-For": "6.6.6.6" + ", 10.0.0.7" * 30}, "10.0.0.7"),
    ],
)
def test_only_trusted_proxies_tell_addresses(
    registry: Registry, trusted: str, headers: Mapping[str, str], address: str
) -> None:
    """The last address that is no trusted proxy counts; any client can write those before it."""
    client_of(registry, trusted_proxies=trusted).get("/v1/users/", headers=dict(headers))
    assert [row[0] for row in seen(registry)] == [address]


def test_made_up_addresses_of_a_network(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a /64 are one client's to choose from: beyond a number, they are counted together."""
    monkeypatch.setattr(activity, "_NAMED_LIMIT", 2)
    monkeypatch.setattr(activity, "_NAMELESS_LIMIT", 1)
    for number in range(1, 200):
        for name in ("team/app", "team/other", "team/third", ""):
            registry.clients.record(f"2001:db8::{number:x}", "docker/1.5.0", name, refused=False)
        registry.clients.record(f"192.0.2.{number}", "docker/1.5.0", "team/app", refused=False)
        if number % 50 == 0:
            registry.clients.flush()
    registry.clients.flush()
    found = registry.clients.list(registry.now().replace(year=2000))
    ipv6 = [row for row in found if ":" in row.address]
    assert len(ipv6) <= 2 * 20 + 20 + 1
    assert sum(row.requests for row in ipv6) == 4 * 199
    (others,) = [row for row in ipv6 if row.address == "2001:db8::/64"]
    assert (others.version, others.repository) == ("others", "")
    assert len([row for row in found if "." in row.address]) == 199


def test_a_flood_of_clients_needs_no_memory(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit between two writings, only clients that are known already count."""
    monkeypatch.setattr("dualreg.registry.activity._PENDING_LIMIT", 2)
    for agent in ("a", "b", "c", "a"):
        registry.clients.record("1.2.3.4", agent, "", refused=False)
    assert seen(registry) == [("1.2.3.4", "a", "", 2, 0), ("1.2.3.4", "b", "", 1, 0)]


def _run(data: Path, *arguments: str) -> str:
    done = unannounced(CliRunner().invoke(main, ["clients", "--data", str(data), *arguments]))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_lists_them_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, JSON for programs, and the next step: upgrade, or switch V1 off by one more step."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    assert "No V1 client connected in the last 30d. Next: run `dualreg v1 set readonly`." in _run(
        settings.data
    )
    monkeypatch.setenv("DUALREG_V1", "readonly")
    assert "Next: run `dualreg v1 set off`." in _run(settings.data)
    monkeypatch.setenv("DUALREG_V1", "off")
    assert "V1 is off already." in _run(settings.data)
    registry = open_registry(settings)
    registry.clients.record("10.0.0.7", DOCKER, "a/b", refused=True)
    registry.clients.flush()
    registry.close()
    lines = _run(settings.data).splitlines()
    assert lines[1].split()[2:] == ["10.0.0.7", "docker/1.5.0", "a/b", "1", "1"]
    assert lines[-1].startswith("V1 clients connected in the last 30d")
    (row,) = json.loads(_run(settings.data, "--json", "--since", "1h"))
    assert (row["address"], row["repository"], row["refused"]) == ("10.0.0.7", "a/b", 1)
    refused = CliRunner().invoke(main, ["clients", "--data", str(settings.data), "--since", "soon"])
    assert refused.exit_code == 2
    assert "expected a duration such as 90s, 15m, 24h or 7d" in refused.output
