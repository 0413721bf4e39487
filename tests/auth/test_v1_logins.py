"""V1: logging in, sessions, and the ways in which old clients say who they are."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualreg.auth.authority import SESSION
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web.app import create_app
from tests import builders
from tests.auth.conftest import Guarded, basic
from tests.properties.registries import push_v1
from tests.protocol.exchange import put_v1, v1_text

CHAIN = builders.v1_chain(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))
TOP = CHAIN[-1].id


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("alice"), 200),
        (basic("alice", "wrong"), 401),
        (basic("nobody"), 401),
        (basic("", ""), 401),
        ({}, 401),
    ],
)
def test_login(guarded: Guarded, headers: dict[str, str], status: int) -> None:
    """An account exists, says POST to all; whether it is theirs, says GET."""
    guarded.account("alice")
    created = guarded.client.post("/v1/users/", json={"username": "alice", "password": "x", "email": "a@b"})
    assert (created.status_code, created.data) == (400, b'"Username or email already exists"')
    answer = guarded.client.get("/v1/users/", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.json == "OK"
    else:
        assert v1_text(answer).startswith("Requires authorization: ")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="dualreg"'
    changed = guarded.client.put("/v1/users/alice/", headers=headers, json={"password": "new"})
    assert changed.status_code == (405 if status == 200 else 401)


@pytest.mark.parametrize("path", ["/v1/_ping", "/_ping", "/v1/_status"])
def test_what_is_open_to_all(guarded: Guarded, path: str) -> None:
    """Clients ask before they say who they are, and load balancers never say."""
    for headers in ({}, basic("nobody")):
        assert guarded.client.get(path, headers=headers).status_code == 200


def test_nobody_in_particular(guarded: Guarded) -> None:
    """``Og==``, an empty name with an empty password, is how Docker says that nobody is logged in."""
    guarded.accounts.grant("anonymous", "public/*", "pull")
    for name in ("public/x", "secret"):
        push_v1(guarded.registry, RepositoryName(name), Tag("v1"), CHAIN)
    nobody = {"Authorization": "Basic Og=="}
    for headers in ({}, nobody):
        listed = guarded.client.get("/v1/repositories/public/x/images", headers=headers)
        session = {"Authorization": f"Token {listed.headers['X-Docker-Token']}"}
        for way in (headers, session):
            assert guarded.client.get(f"/v1/images/{TOP}/layer", headers=way).data == CHAIN[-1].layer
        assert guarded.client.get("/v1/repositories/secret/images", headers=headers).status_code == 401
        assert guarded.client.put("/v1/repositories/public/x/", headers=headers, json=[]).status_code == 401


def test_image_ids_are_read_through_what_may_be_read(guarded: Guarded) -> None:
    """An id of another repository is not there, in a session or without, and whoever guesses it."""
    alice = guarded.account("alice", ("mine/*", "pull,push"))
    push_v1(guarded.registry, RepositoryName("mine/x"), Tag("v1"), CHAIN[:1])
    push_v1(guarded.registry, RepositoryName("secret"), Tag("v1"), CHAIN)
    begun = guarded.client.put("/v1/repositories/mine/x/", headers=alice, json=[])
    session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    for headers in (alice, session):
        assert guarded.client.get(f"/v1/images/{CHAIN[0].id}/json", headers=headers).status_code == 200
        for what in ("json", "layer", "ancestry", "files", "diff"):
            answer = guarded.client.get(f"/v1/images/{TOP}/{what}", headers=headers)
            absent = guarded.client.get(f"/v1/images/{'0' * 64}/{what}", headers=headers)
            assert (answer.status_code, answer.data) == (absent.status_code, absent.data)
            assert v1_text(answer) == "Image not found"
    # Nor can it be pushed on top of, or tagged.
    above = builders.V1Pushed("f" * 64, json.dumps({"id": "f" * 64, "parent": TOP}).encode(), b"")
    answer = guarded.client.put(f"/v1/images/{above.id}/json", headers=session, data=above.json)
    assert answer.status_code == 400
    assert guarded.client.put("/v1/repositories/mine/x/tags/t", headers=session, json=TOP).status_code == 404


@pytest.mark.slow
def test_basic_everywhere(registry: Registry, guarded: Guarded) -> None:
    """A client that never sends a token pushes by the cookie of its session, and only as who began it."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    bob = guarded.account("bob", ("team/*", "pull,push"))
    client = create_app(guarded.settings, registry).test_client()  # with a jar, as Docker's
    begun = client.put("/v1/repositories/team/app/", headers=alice, json=[])
    cookie = begun.headers["Set-Cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/v1", f"Max-Age={int(SESSION.total_seconds())}"):
        assert word in cookie
    put_v1(client, CHAIN[0], alice)
    assert client.put("/v1/repositories/team/app/tags/x", headers=alice, json=CHAIN[0].id).status_code == 200
    for other in (bob, {}, {"Authorization": "Basic Og=="}):
        refused = client.put(f"/v1/images/{TOP}/json", headers=other, data=CHAIN[1].json)
        assert refused.status_code == 401
    guarded.accounts.ungrant("alice", "team/*", "push")
    refused = client.put(f"/v1/images/{TOP}/json", headers=alice, data=CHAIN[1].json)
    assert refused.status_code == 403
    without = guarded.client.put(f"/v1/images/{TOP}/json", headers=alice, data=CHAIN[1].json)
    assert without.status_code == 401


@pytest.mark.parametrize("held", ["x", "library/x"])
@pytest.mark.parametrize("may", ["x", "library/x", "both"])
def test_the_alias_opens_no_other_repository(guarded: Guarded, held: str, may: str) -> None:
    """``x`` and ``library/x`` mean one another only to who may read the one that is meant."""
    names = ["x", "library/x"] if may == "both" else [may]
    alice = guarded.account("alice", *((name, "pull,push,delete") for name in names))
    push_v1(guarded.registry, RepositoryName(held), Tag("v1"), CHAIN)
    for asked in ("x", "library/x"):
        listed = guarded.client.get(f"/v1/repositories/{asked}/tags", headers=alice)
        assert listed.status_code == (200 if held in names else 404), (asked, held, may)
    deleted = guarded.client.delete("/v1/repositories/x/tags/v1", headers=alice)
    assert deleted.status_code == (200 if held in names else 404)
    for asked in ("x", "library/x"):
        pushed = guarded.client.put(f"/v1/repositories/{asked}/", headers=alice, json=[])
        assert pushed.status_code == (200 if asked in names else 403)


def test_privacy_is_told(guarded: Guarded) -> None:
    """Public is what anonymous may pull."""
    alice = guarded.account("alice", ("*", "pull,push"))
    guarded.accounts.grant("anonymous", "public/*", "pull")
    for name, access in (("public/x", "public"), ("secret", "private")):
        path = f"/v1/repositories/{name}/properties"
        assert guarded.client.get(path, headers=alice).json == {"access": access}
        assert guarded.client.put(path, headers=alice, json={"access": access}).json is True
        other = {"public": "private", "private": "public"}[access]
        assert guarded.client.put(path, headers=alice, json={"access": other}).status_code == 400


def test_the_trail(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Writes and denials of both dialects, with who, what and how it ended; reads and greetings are not."""
    file = tmp_path / "audit.jsonl"
    own = guard(audit=str(file))
    alice = own.account("alice", ("a/b", "pull,push"))
    client = own.client
    client.get("/v2/")
    client.get("/v2/a/b/tags/list", headers=alice)
    client.post("/v2/a/b/blobs/uploads/?digest=sha256:x&secret=1", headers=alice)
    client.post("/v2/a/b/blobs/uploads/", headers=alice)
    client.delete("/v2/a/b/manifests/x", headers=alice)
    client.get("/v2/a/c/tags/list")
    client.get("/v2/", headers=basic("alice", "hush"))
    client.put("/v1/repositories/a/b/", headers=alice, json=[])
    client.get("/v1/users/", headers=basic("mallory", "hush"))
    client.get("/token?offline_token=true", headers=alice)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["event"], line.get("account"), line["path"], line.get("status")) for line in lines] == [
        ("write", "alice", "/v2/a/b/blobs/uploads/", 202),
        ("denied", "alice", "/v2/a/b/manifests/x", 403),
        ("denied", None, "/v2/a/c/tags/list", 401),
        ("denied", "alice", "/v2/", 401),
        ("write", "alice", "/v1/repositories/a/b/", 200),
        ("denied", "mallory", "/v1/users/", 401),
        ("refresh-token", "alice", "/token", None),
    ]
    assert (lines[1]["repository"], lines[1]["action"], lines[1]["method"]) == ("a/b", "delete", "DELETE")
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert "hush" not in file.read_text()


def test_handlers_say_what_they_need(guarded: Guarded) -> None:
    """All of them, in both dialects; one that does not never runs."""
    from dualreg.web.guard import need_of  # noqa: PLC0415 -- what is tested

    app = guarded.client.application
    ruled = [name for name in app.view_functions if name.partition(".")[0] in ("v1", "v2")]
    assert len(ruled) > 40
    for name in ruled:
        need_of(app.view_functions[name])
    app.view_functions["v2.list_tags"] = lambda name: "forgotten"  # noqa: ARG005 -- the route's
    for headers in ({}, guarded.account("alice", ("*", "admin"))):
        assert guarded.client.get("/v2/a/b/tags/list", headers=headers).status_code == 500


@pytest.mark.parametrize("chosen", [{"auth": "htpasswd"}, {"auth": "token"}, {"auth": "magic"},
                                      {"token_ttl": "59s"}, {"token_algorithms": "none"},
                                      {"token_service": 'a"b'}, {"oidc_issuer": "https://x"}])  # fmt: skip
def test_settings_that_do_not_go_together(chosen: dict[str, str]) -> None:
    """Are refused at the start."""
    with pytest.raises(ValueError, match=r"\w"):
        Settings.model_validate(chosen)


def test_who_may_nothing_leaves_no_names(guarded: Guarded) -> None:
    """The list of V1 clients says who came; what they asked for only if they might."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    for name, headers in (("made/up", {}), ("made/up/too", alice), ("team/app", alice)):
        guarded.client.put(f"/v1/repositories/{name}/", headers=headers, json=[])
    guarded.registry.clients.flush()
    noted = guarded.registry.clients.list(guarded.registry.state.catalog.now() - SESSION)
    assert {(row.repository, row.requests) for row in noted} == {("", 2), ("team/app", 1)}


_HEADERS = st.one_of(
    st.text(st.characters(codec="latin-1"), max_size=60),
    st.builds(
        lambda scheme, value: f"{scheme} {value}",
        st.sampled_from(["Basic", "Bearer", "Token", "bAsIc", "Token Token", "Basic Basic"]),
        st.one_of(
            st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=80),
            st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
            st.text(max_size=30).map(lambda text: base64.b64encode(f"{text}:{text}".encode()).decode()),
        ),
    ),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=_HEADERS,
    path=st.sampled_from(["/v2/a/tags/list", "/v1/repositories/a/tags", "/token", "/v2/_catalog"]),
)
def test_no_header_opens_anything(guarded: Guarded, header: str, path: str) -> None:
    """Whatever is in it: refused or, if it says nothing, nobody in particular."""
    with patch.object(bcrypt, "checkpw", return_value=False):
        answer = guarded.client.get(
            path, headers={"Authorization": header.replace("\r", "").replace("\n", "")}
        )
    assert answer.status_code in ((200, 400, 401, 429) if path == "/token" else (401, 429))
    if answer.status_code == 200:
        assert answer.json["scope"] == ""
