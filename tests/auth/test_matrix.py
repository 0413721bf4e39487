"""Who, repository, operation and way of asking, multiplied: what is allowed is what ten lines say."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

import pytest
from werkzeug.test import TestResponse

from dualreg.auth.secrets import SecretKind
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from tests import builders
from tests.auth.conftest import Guarded, basic, bearer
from tests.properties.registries import push_v1, push_v2

IMAGE = builders.image(builders.layer({"a": b"1"}))
CHAIN = builders.v1_chain(builders.layer({"b": b"2"}))
TOP = CHAIN[-1].id
LINES = [
    ("alice", "team/*", "pull,push"),
    ("alice", "alone", "admin"),
    ("@dev", "team/app", "delete"),
    ("bob", "team/app", "pull"),
    ("carol", "team/app", "push"),
    ("robot", "*", "pull,push,delete"),
    ("authenticated", "home/{account}/*", "pull,push"),
    ("anonymous", "public/*", "pull"),
]
GROUPS = {"bob": {"dev"}}
#: What the robot's key is limited to.
LIMIT = ("team/*", {"pull", "push"})
WHO = ["anonymous", "alice", "bob", "carol", "robot", "limited"]
REPOSITORIES = [
    "team/app",
    "team/other",
    "alone",
    "public/x",
    "home/alice/x",
    "home/bob/x",
    "teamwork",
    "nowhere",
]


def oracle(who: str, repository: str, action: str) -> bool:
    """Tell what the lines above mean, read by a person."""
    account = "robot" if who == "limited" else who
    names = {account, "anonymous", *(f"@{group}" for group in GROUPS.get(who, ()))}
    names |= {"authenticated"} if who != "anonymous" else set()
    allowed = any(
        line in names
        and fnmatchcase(repository, pattern.replace("{account}", account))
        and (action in actions.split(",") or actions == "admin")
        for line, pattern, actions in LINES
    )
    limited = who != "limited" or (fnmatchcase(repository, LIMIT[0]) and action in LIMIT[1])
    return allowed and limited


@dataclass(frozen=True)
class Operation:
    """A request with what it needs; it asks for what is not there, so that it changes nothing."""

    method: str
    path: str
    action: str
    body: bytes = b""


ABSENT = "sha256:" + "0" * 64
V2 = {
    "manifest": Operation("GET", "/v2/{r}/manifests/one", "pull"),
    "manifest by digest": Operation("HEAD", f"/v2/{{r}}/manifests/{IMAGE.digest}", "pull"),
    "blob": Operation("GET", f"/v2/{{r}}/blobs/{Digest.of(IMAGE.config)}", "pull"),
    "tags": Operation("GET", "/v2/{r}/tags/list", "pull"),
    "referrers": Operation("GET", f"/v2/{{r}}/referrers/{ABSENT}", "pull"),
    "tags, in detail": Operation("GET", "/v2/{r}/_dualreg/tags", "pull"),
    "upload": Operation("PATCH", "/v2/{r}/blobs/uploads/2f1ff94d-4cb9-4d4a-b3a6-0e5f0dc7f0b2", "push", b"x"),
    "upload status": Operation("GET", "/v2/{r}/blobs/uploads/2f1ff94d-4cb9-4d4a-b3a6-0e5f0dc7f0b2", "push"),
    "blob in one": Operation("POST", f"/v2/{{r}}/blobs/uploads/?digest={ABSENT}", "push", b"x"),
    "manifest push": Operation("PUT", "/v2/{r}/manifests/new", "push", b"{}"),
    "tag delete": Operation("DELETE", "/v2/{r}/manifests/absent", "delete"),
    "manifest delete": Operation("DELETE", f"/v2/{{r}}/manifests/{ABSENT}", "delete"),
    "blob delete": Operation("DELETE", f"/v2/{{r}}/blobs/{ABSENT}", "delete"),
}
V1 = {
    "images": Operation("GET", "/v1/repositories/{r}/images", "pull"),
    "tags": Operation("GET", "/v1/repositories/{r}/tags", "pull"),
    "tag": Operation("GET", "/v1/repositories/{r}/tags/absent", "pull"),
    "tag json": Operation("GET", "/v1/repositories/{r}/tags/absent/json", "pull"),
    "properties": Operation("GET", "/v1/repositories/{r}/properties", "pull"),
    "push": Operation("PUT", "/v1/repositories/{r}/", "push", b"no list"),
    "push's end": Operation("PUT", "/v1/repositories/{r}/images", "push", b"no list"),
    "tag push": Operation("PUT", "/v1/repositories/{r}/tags/x", "push", json.dumps("0" * 64).encode()),
    "tag delete": Operation("DELETE", "/v1/repositories/{r}/tags/absent", "delete"),
}


@pytest.fixture
def matrix(guarded: Guarded) -> Iterator[Callable[[str], dict[str, str]]]:
    """The accounts and lines; returns everybody's Basic header."""
    for account in ("alice", "bob", "carol"):
        guarded.account(account)
    guarded.accounts.add("robot", None)
    for line in LINES:
        guarded.accounts.grant(*line)
    guarded.accounts.join("dev", "bob")
    keys = {
        "robot": guarded.accounts.add_key("robot", limits="", note="", lifetime=None),
        "limited": guarded.accounts.add_key(
            "robot", limits=f"repository:{LIMIT[0]}:{','.join(sorted(LIMIT[1]))}", note="", lifetime=None
        ),
    }
    for name in REPOSITORIES:
        if name != "nowhere":
            push_v2(guarded.registry, RepositoryName(name), Tag("one"), IMAGE)
            push_v1(guarded.registry, RepositoryName(name), Tag("v1"), CHAIN)

    def headers(who: str) -> dict[str, str]:
        if who == "anonymous":
            return {}
        return basic("robot", keys[who].text) if who in keys else basic(who)

    yield headers
    assert len(guarded.accounts.secrets(SecretKind.KEY)) == 2


def refused(response: TestResponse) -> bool:
    """Tell whether the answer says no to who asks, and not to what was asked."""
    assert response.status_code < 500
    return response.status_code in (401, 403)


@pytest.mark.slow
def test_v2(guarded: Guarded, matrix: Callable[[str], dict[str, str]]) -> None:
    """With Basic on each request, and with a token for just what is needed: both agree with the oracle."""
    wrong = []
    for who, repository, (name, operation) in product(WHO, REPOSITORIES, V2.items()):
        scope = f"repository:{repository}:{operation.action}"
        ways = {"token": bearer(guarded.token(scope, headers=matrix(who)))}
        ways["Basic"] = matrix(who)
        for way, headers in ways.items():
            answer = guarded.client.open(
                operation.path.format(r=repository),
                method=operation.method,
                headers=headers,
                data=operation.body,
            )
            if refused(answer) is oracle(who, repository, operation.action):
                wrong.append((who, repository, name, way, answer.status_code))
    assert wrong == []


@pytest.mark.slow
def test_v1(guarded: Guarded, matrix: Callable[[str], dict[str, str]]) -> None:
    """With Basic on the index calls; images through the token that those gave."""
    wrong = []
    for who, repository, (name, operation) in product(WHO, REPOSITORIES, V1.items()):
        answer = guarded.client.open(
            operation.path.format(r=repository),
            method=operation.method,
            headers=matrix(who),
            data=operation.body,
        )
        if refused(answer) is oracle(who, repository, operation.action):
            wrong.append((who, repository, name, answer.status_code))
    assert wrong == []


@pytest.mark.slow
def test_v1_images(guarded: Guarded, matrix: Callable[[str], dict[str, str]]) -> None:
    """An image is read through a session on its repository, or another that may be read; else never."""
    for who in WHO:
        readable = [name for name in REPOSITORIES if oracle(who, name, "pull") and name != "nowhere"]
        without = guarded.client.get(f"/v1/images/{TOP}/json", headers=matrix(who))
        assert without.status_code == (200 if readable else 401 if who == "anonymous" else 404), who
        for name in REPOSITORIES:
            begun = guarded.client.get(f"/v1/repositories/{name}/images", headers=matrix(who))
            assert (begun.status_code == 200) is (name in readable), (who, name)
            if begun.status_code == 200:
                session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
                assert guarded.client.get(f"/v1/images/{TOP}/layer", headers=session).data == CHAIN[-1].layer
                written = guarded.client.put(f"/v1/images/{TOP}/json", headers=session, data=CHAIN[-1].json)
                assert written.status_code == 401  # a session that was begun to read
            session = matrix(who)
            begun = guarded.client.put(f"/v1/repositories/{name}/", headers=matrix(who), json=[])
            assert (begun.status_code == 200) is oracle(who, name, "push"), (who, name)
            if begun.status_code == 200:
                session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
                written = guarded.client.put(f"/v1/images/{TOP}/json", headers=session, data=CHAIN[-1].json)
                assert written.status_code in (200, 409)


@pytest.mark.slow
def test_mounts(guarded: Guarded, matrix: Callable[[str], dict[str, str]]) -> None:
    """A blob comes over only from where it may be pulled; a refusal looks like a blob that is not there."""
    data = b"of one repository only"
    for name in REPOSITORIES:
        guarded.registry.uploads.ingest(RepositoryName(name), [name.encode() + data])
    for who, source in product(WHO, REPOSITORIES):
        digest = Digest.of(source.encode() + data)
        target = next((name for name in REPOSITORIES if name != source and oracle(who, name, "push")), None)
        if target is None:
            continue
        scopes = [f"repository:{target}:pull,push", f"repository:{source}:pull"]
        for headers in (matrix(who), bearer(guarded.token(*scopes, headers=matrix(who)))):
            for query in (f"mount={digest}&from={source}", f"mount={digest}"):
                answer = guarded.client.post(f"/v2/{target}/blobs/uploads/?{query}", headers=headers)
                assert answer.status_code == (201 if oracle(who, source, "pull") else 202), (
                    who,
                    source,
                    query,
                )
        guarded.registry.blobs.delete(RepositoryName(target), digest) if oracle(who, source, "pull") else None


@pytest.mark.slow
def test_lists(guarded: Guarded, matrix: Callable[[str], dict[str, str]]) -> None:
    """Catalog, page by page, and V1's search show what may be pulled, and links name nothing else."""
    for who in WHO:
        shown = [
            name for name in REPOSITORIES if oracle(who, name, "pull") or oracle("anonymous", name, "pull")
        ]
        expected = sorted(name for name in shown if name != "nowhere")
        ways = [bearer(guarded.token("registry:catalog:*", headers=matrix(who)))]
        ways += [] if who == "anonymous" else [matrix(who)]
        for headers in ways:
            listed, path = [], "/v2/_catalog?n=2"
            while path:
                page = guarded.client.get(path, headers=headers)
                listed += page.json["repositories"]
                path = page.headers.get("Link", "").partition(">")[0].lstrip("<")
                assert not [name for name in REPOSITORIES if name not in expected and name in path]
            assert listed == expected, who
        found = guarded.client.get("/v1/search?q=", headers=matrix(who)).json
        assert [each["name"] for each in found["results"]] == expected
        assert found["num_results"] == len(expected)


@pytest.mark.slow
def test_whole_repositories_are_the_admins(guarded: Guarded, matrix: Callable[[str], dict[str, str]]) -> None:
    """Who may delete what is in a repository may not delete it; an admin may."""
    path = "/v2/{}/_dualreg/repository"
    assert guarded.client.delete(path.format("team/app"), headers=matrix("robot")).status_code == 403
    assert guarded.client.delete(path.format("alone"), headers=matrix("alice")).status_code == 202


@pytest.mark.parametrize("path", ["/v2/{}/tags/list", "/v1/repositories/{}/tags", "/v2/{}/manifests/one"])
def test_what_is_forbidden_looks_as_what_is_absent(
    guarded: Guarded, matrix: Callable[[str], dict[str, str]], path: str
) -> None:
    """To the letter, for whoever asks."""
    for who in ("anonymous", "carol"):
        answers = [
            guarded.client.get(path.format(name), headers={**matrix(who), "X-Request-Id": "one"})
            for name in ("teamwork", "nothings")
        ]
        there, absent = (
            (a.status_code, dict(a.headers), a.data.replace(b"nothings", b"teamwork")) for a in answers
        )
        absent[1]["WWW-Authenticate"] = absent[1].get("WWW-Authenticate", "").replace("nothings", "teamwork")
        there[1].setdefault("WWW-Authenticate", "")
        assert there == absent
