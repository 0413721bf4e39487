"""Texts of denials, as whole exchanges: what a person reads who is not, or not sufficiently, logged in."""

from typing import Any, NamedTuple

import pytest

from dualreg.auth.attempts import Limits
from tests.auth.conftest import Guarded, basic, bearer

PULL = [{"Type": "repository", "Class": "", "Name": "a/b", "Action": "pull"}]
PUSH = [*PULL, {"Type": "repository", "Class": "", "Name": "a/b", "Action": "push"}]
DELETE = [{"Type": "repository", "Class": "", "Name": "a/b", "Action": "delete"}]
SCOPE = "repository:a/b:pull"
AUTHORIZE, DENIED = "Requires authorization: ", "requested access to the resource is denied: "


class Exchange(NamedTuple):
    """A request with the credentials of one of the tests' clients, and its answer."""

    client: str
    request: str
    status: int
    message: str
    detail: Any = None


V2 = [
    Exchange("nobody", "GET /v2/", 401, f"{AUTHORIZE}log in"),
    Exchange(
        "nobody",
        "GET /v2/a/b/tags/list",
        401,
        f"{AUTHORIZE}log in, or send a token with the scope {SCOPE}",
        PULL,
    ),
    Exchange(
        "anonymous",
        "POST /v2/a/b/blobs/uploads/",
        401,
        f"{AUTHORIZE}the anonymous token lacks push on repository a/b: log in as an account that has it,"
        f" for scope {SCOPE},push",
        PUSH,
    ),
    Exchange(
        "token",
        "DELETE /v2/a/b/manifests/x",
        401,
        f"{AUTHORIZE}the token of alice lacks delete on repository a/b: log in as an account that has it,"
        " for scope repository:a/b:delete",
        DELETE,
    ),
    Exchange(
        "token",
        "GET /v2/_catalog",
        401,
        f"{AUTHORIZE}the token of alice lacks the list of repositories: log in as an account that has it,"
        " for scope registry:catalog:*",
        [{"Type": "registry", "Class": "", "Name": "catalog", "Action": "*"}],
    ),
    Exchange(
        "alice", "DELETE /v2/a/b/manifests/x", 403, f"{DENIED}alice lacks delete on repository a/b", DELETE
    ),
    Exchange("forger", "GET /v2/a/b/tags/list", 401, f"{AUTHORIZE}Signature verification failed"),
    Exchange("mallory", "GET /v2/a/b/tags/list", 401, f"{AUTHORIZE}invalid account or password"),
    Exchange("digest", "GET /v2/a/b/tags/list", 401, f"{AUTHORIZE}unsupported authentication scheme"),
]

V1 = [
    Exchange("nobody", "GET /v1/users/", 401, f"{AUTHORIZE}log in"),
    Exchange("mallory", "GET /v1/users/", 401, f"{AUTHORIZE}invalid account or password"),
    Exchange(
        "nobody",
        "PUT /v1/repositories/a/b/",
        401,
        f"{AUTHORIZE}log in, or send a token with the scope {SCOPE},push",
    ),
    Exchange("alice", "PUT /v1/repositories/a/b/", 403, f"{DENIED}alice lacks push on repository a/b"),
    Exchange(
        "alice",
        f"PUT /v1/images/{'0' * 64}/json",
        401,
        f"{AUTHORIZE}send the token that the repository was answered with",
    ),
]


@pytest.fixture
def headers(guarded: Guarded) -> dict[str, dict[str, str]]:
    """The credentials of each client: alice may pull ``a/b``, and her password is nobody else's."""
    alice = guarded.account("alice", ("a/b", "pull"))
    token = guarded.token(SCOPE, headers=alice)
    return {
        "nobody": {},
        "anonymous": bearer(guarded.token(SCOPE)),
        "alice": alice,
        "token": bearer(token),
        "forger": bearer(f"{token[:-4]}AAAA"),
        "mallory": basic("alice", "a guess"),
        "digest": {"Authorization": "Digest x"},
    }


@pytest.mark.parametrize("exchange", V2, ids=lambda each: f"{each.client}, {each.request}")
def test_v2(guarded: Guarded, headers: dict[str, dict[str, str]], exchange: Exchange) -> None:
    """The message names what is lacking, and the detail lists it as the reference registry does."""
    method, path = exchange.request.split(" ")
    answer = guarded.client.open(path, method=method, headers=headers[exchange.client])
    code = {401: "UNAUTHORIZED", 403: "DENIED"}[exchange.status]
    expected = {"code": code, "message": exchange.message}
    assert answer.json == {"errors": [expected | ({"detail": exchange.detail} if exchange.detail else {})]}
    assert answer.status_code == exchange.status
    if 'error="' in answer.headers.get("WWW-Authenticate", ""):
        description = exchange.message.removeprefix(AUTHORIZE)
        assert f'error_description="{description}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("exchange", V1, ids=lambda each: f"{each.client}, {each.request}")
def test_v1(guarded: Guarded, headers: dict[str, dict[str, str]], exchange: Exchange) -> None:
    """The same in one text."""
    method, path = exchange.request.split(" ")
    answer = guarded.client.open(path, method=method, headers=headers[exchange.client], json=[])
    assert (answer.status_code, answer.json) == (exchange.status, {"error": exchange.message})


def test_failed_logins(guarded: Guarded) -> None:
    """How long to wait, in the text and in the header, over both APIs."""
    guarded.account("alice")
    for number in range(Limits().pair):
        guarded.client.get("/v2/", headers=basic("alice", f"guess {number}"))
    text = "too many failed logins: retry in 900 seconds"
    v2 = guarded.client.get("/v2/", headers=basic("alice"))
    v1 = guarded.client.get("/v1/users/", headers=basic("alice"))
    assert v2.json == {"errors": [{"code": "TOOMANYREQUESTS", "message": text}]}
    assert v1.json == {"error": text}
    assert {(each.status_code, each.headers["Retry-After"]) for each in (v2, v1)} == {(429, "900")}


def test_texts_reveal_no_secret(guarded: Guarded, headers: dict[str, dict[str, str]]) -> None:
    """Neither the password nor the token that was sent is in any answer."""
    for client, sent in headers.items():
        secret = sent.get("Authorization", " none").split(" ")[1]
        for path in ("/v2/a/b/tags/list", "/v2/_catalog", "/v1/users/"):
            answer = guarded.client.get(path, headers=sent)
            assert secret == "none" or secret.encode() not in answer.data, client
            assert b"a guess" not in answer.data
