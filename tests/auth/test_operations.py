"""Who may do what by the API of administration: a table of accounts against every operation."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualreg.auth.access import Action
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.operation import PREFIX, Needs, Operation
from dualreg.operations.table import OPERATIONS
from dualreg.registry import usage
from dualreg.web.app import create_app
from tests import builders
from tests.auth.conftest import Guarded, basic, bearer
from tests.properties.registries import push_v2

APP, OTHER, TAG = RepositoryName("team/app"), RepositoryName("secret/app"), Tag("v1")
IMAGES = [builders.image(builders.layer({"a": b"%d" % n})) for n in range(2)]
#: Accounts, and their permission lines.
ACCOUNTS: dict[str, tuple[tuple[str, str], ...]] = {
    "nothing": (),
    "puller": (("team/*", "pull"),),
    "pusher": (("team/*", "pull,push"),),
    "deleter": (("team/*", "delete"),),
    "owner": (("team/*", "admin,manage"),),
    "admin": (("*", "admin"),),
    "manager": (("*", "manage"),),
    "root": (("*", "admin,manage"),),
    "apart": (("*", "admin"), ("*", "manage,pull")),
}
ADMINISTRATORS = {"root", "apart"}
#: Arguments by name; those of one operation by its name and that of the argument.
GIVEN: dict[str, object] = {
    "repository": APP, "tag": TAG, "pattern": "team/*:v*", "size": 1000, "target": "v1", "depth": 1,
    "newest": 3, "quotas_set.pattern": "team/*", "quotas_remove.pattern": "team/*",
    "name": "carol", "account": "carol", "group": "dev", "password": "correct horse", "who": "carol",
    "actions": "pull", "action": "pull", "reason": "moving", "reference": "v1", "other": "v1",
    "since": "30d", "grace": "24h", "audit_read.since": "2026-01-31T12:00Z",
    "access_grant.pattern": "carol/*", "access_revoke.pattern": "carol/*", "tasks_start.name": "gc",
    "url": "https://ci.example.com/", "webhooks_add.actions": ["push"], "webhooks_replay.since": None,
    "repositories_list.pattern": "*", "run": "2026-01-31T12:00:00Z", "id": "0123456789abcdef",
    "tags": [TAG], "targets": {TAG: str(IMAGES[0].digest)},
    "usage_repositories.pattern": "team/*", "usage_namespaces.pattern": "team/*", "v1_set.v1": "readonly",
}  # fmt: skip


def arguments(operation: Operation, **given: object) -> dict[str, object]:
    """Return arguments with which the operation could succeed."""
    found = {name: GIVEN.get(f"{operation.name}.{name}", GIVEN.get(name)) for name in operation.parameters}
    return {name: value for name, value in (found | given).items() if value is not None}


def send(own: Guarded, operation: Operation, headers: dict[str, str], given: dict[str, object]) -> Any:
    """Send the request of an operation."""
    path, texts = f"{PREFIX}{operation.path}", {name: json.dumps(value) for name, value in given.items()}
    if operation.in_query:
        query = {name: text.strip('"') for name, text in texts.items()}
        return own.client.open(path, method=operation.method, query_string=query, headers=headers)
    return own.client.open(path, method=operation.method, json=given, headers=headers)


@pytest.fixture
def own(guarded: Guarded) -> Guarded:
    """A registry with accounts, and a repository that only some of them may pull."""
    for name, lines in ACCOUNTS.items():
        guarded.account(name, *lines)
    for name in (APP, OTHER):
        for image in IMAGES:
            push_v2(guarded.registry, name, TAG, image)
    return guarded


def is_allowed(account: str, operation: Operation, repository: str = APP) -> bool:
    """Return whether the account may do that: the rules again, read another way."""
    if operation.needs is Needs.ACCOUNT:
        return True
    if operation.needs is Needs.ADMINISTRATOR:
        return account in ADMINISTRATORS
    actions = {
        action
        for pattern, listed in ACCOUNTS[account]
        if pattern == "*" or repository.startswith(pattern.strip("*"))
        for action in listed.split(",")
    }
    return not actions.isdisjoint({operation.needs, Action.ADMIN})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_permissions(own: Guarded, operation: Operation) -> None:
    """As declared; a repository that one may not pull is refused as if it did not exist, before all else."""
    for account in ACCOUNTS:
        answer = send(own, operation, basic(account), arguments(operation))
        allowed = is_allowed(account, operation)
        assert (answer.status_code == 403 and "immutable" not in answer.text) != allowed, (
            account,
            answer.text,
        )
        if isinstance(operation.needs, Action):
            texts = [
                send(own, operation, basic(account), arguments(operation, repository=name)).text
                for name in (OTHER, "secret/none")
                if not is_allowed(account, operation, OTHER)
            ]
            assert len({text.replace(OTHER, "").replace("secret/none", "") for text in texts}) <= 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_credentials(own: Guarded, operation: Operation) -> None:
    """Only passwords and keys do; a key that is limited is no administrator's."""
    token = own.token("repository:team/app:*", headers=basic("root"))
    for headers in ({}, bearer(token), basic("root", "wrong")):
        assert send(own, operation, headers, arguments(operation)).status_code == 401
    limited = own.accounts.add_key("root", limits="repository:*:admin", note="")
    free = own.accounts.add_key("root", limits="", note="")
    answers = [
        send(own, operation, basic("root", key.text), arguments(operation)).status_code
        for key in (limited, free)
    ]
    assert (answers[0] == 403) == (operation.needs is Needs.ADMINISTRATOR)
    assert answers[1] != 403


def test_lists_show_what_one_may_pull(own: Guarded) -> None:
    """Usage leaves out the rest; the history shows who pushed to those who may push."""
    shown = {
        account: [
            row["name"] for row in own.client.get(f"{PREFIX}/usage", headers=basic(account)).json["rows"]
        ]
        for account in ("nothing", "puller", "root")
    }
    assert shown == {"nothing": [], "puller": [APP], "root": [OTHER, APP]}
    answer = own.client.post(
        f"{PREFIX}/tags/restore", json={"repository": APP, "tag": TAG}, headers=basic("pusher")
    )
    assert answer.json["new"] == str(IMAGES[0].digest)
    for account, actor in (("puller", ""), ("pusher", "pusher")):
        query = {"repository": APP, "tag": TAG, "n": 1}
        page = own.client.get(f"{PREFIX}/tags/history", query_string=query, headers=basic(account))
        assert (page.json["rows"][0]["actor"], page.json["rows"][0]["api"]) == (actor, "api")
        assert page.headers["Link"].startswith(
            f"<{PREFIX}/tags/history?repository=team%2Fapp&tag=v1&n=1&after="
        )


def test_large_namespaces_are_measured_for_administrators(
    own: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others see what they may pull, and are refused what takes long."""
    path = f"{PREFIX}/usage/namespaces?depth=1"
    assert [row["name"] for row in own.client.get(path, headers=basic("puller")).json["rows"]] == ["team"]
    assert own.client.get(path, headers=basic("nothing")).json["rows"] == []
    monkeypatch.setattr(usage, "LINKS_LIMIT", 1)
    answer = own.client.get(path, headers=basic("puller"))
    assert (answer.status_code, "team has more than 1 blobs" in answer.text) == (400, True)
    assert own.client.get(path, headers=basic("nothing")).json["rows"] == []
    page = own.client.get(path, headers=basic("root")).json
    assert ([row["name"] for row in page["rows"]], page["next"]) == (["secret"], "secret/~")


def test_what_keeps_a_blob_anywhere_is_for_administrators(own: Guarded) -> None:
    """In one repository, it is for those who may pull there."""
    digest = str(IMAGES[0].digest)
    for account, wide in (("puller", 403), ("admin", 403), ("root", 200)):
        path = f"{PREFIX}/images/why?reference={digest}"
        assert own.client.get(path, headers=basic(account)).status_code == wide
        assert own.client.get(f"{path}&repository={APP}", headers=basic(account)).status_code == 200
    assert own.client.get(f"{path}&repository={OTHER}", headers=basic("puller")).status_code == 403


def test_changes_are_in_the_audit_log(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """With the account, the command and what it changed; denials too."""
    own = guard(audit=f"{tmp_path / 'audit.jsonl'}")
    own.account("root", ("*", "admin,manage"))
    own.account("alice", ("team/*", "pull"))
    push_v2(own.registry, APP, TAG, IMAGES[0])
    own.client.post(f"{PREFIX}/immutable", json={"pattern": "x/*:v*"}, headers=basic("root"))
    own.client.delete(f"{PREFIX}/tags?repository={APP}&tag={TAG}", headers=basic("root"))
    own.client.delete(f"{PREFIX}/tags?repository={APP}&tag={TAG}", headers=basic("alice"))
    own.client.get(f"{PREFIX}/immutable", headers=basic("alice"))
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    keys = ("event", "account", "command", "pattern", "repository", "tag", "digest")
    assert [tuple(line.get(key) for key in keys) for line in lines] == [
        ("write", "root", "immutable add", "x/*:v*", None, None, None),
        ("write", "root", "tag delete", None, APP, TAG, str(IMAGES[0].digest)),
        ("denied", "alice", None, None, APP, None, None),
        ("denied", "alice", None, None, None, None, None),
    ]
    query = {"n": 3, "until": lines[-1]["time"]}
    page = own.client.get(f"{PREFIX}/audit", query_string=query, headers=basic("root")).json
    shown = [{"time": row["at"], "event": row["event"], **row["facts"]} for row in page["rows"]]
    assert shown == lines[:0:-1]
    query = {"pattern": APP, "action": "tag", "after": page["next"], "account": "root", "since": "x"}
    assert own.client.get(f"{PREFIX}/audit", query_string=query, headers=basic("root")).status_code == 400
    del query["since"]
    page = own.client.get(f"{PREFIX}/audit", query_string=query, headers=basic("root")).json
    assert (page["rows"], page["damaged"], page["instance"]) == ([], 0, socket.gethostname())


@pytest.mark.slow
def test_what_deletes_nothing_over_v2_does_not_here(guard: Callable[..., Guarded]) -> None:
    """Neither tags nor repositories."""
    own = guard(delete=False)
    own.account("root", ("*", "admin,manage"))
    push_v2(own.registry, APP, TAG, IMAGES[0])
    for path in (f"tags?repository={APP}&tag={TAG}", f"repositories?repository={APP}"):
        answer = own.client.delete(f"{PREFIX}/{path}", headers=basic("root"))
        assert (answer.status_code, answer.json["errors"][0]["code"]) == (405, "UNSUPPORTED")


def test_a_read_only_registry_only_becomes_writable(own: Guarded, tmp_path: Path) -> None:
    """All other changes are refused, with the reason; reads are not."""
    app = create_app(own.settings.model_copy(update={"data": tmp_path, "audit": "off"}), own.registry)
    client = app.test_client(use_cookies=False)
    there = replace(own, client=client)
    made = client.post(f"{PREFIX}/readonly", json={"reason": "moving"}, headers=basic("root"))
    assert made.json["reason"] == "moving"
    for operation in OPERATIONS:
        if operation.method != "GET" and not operation.while_readonly:
            answer = send(there, operation, basic("root"), arguments(operation))
            assert (answer.status_code, "moving" in answer.text) == (405, True), operation.name
    assert client.get(f"{PREFIX}/readonly", headers=basic("puller")).status_code == 403
    assert client.get(f"{PREFIX}/tags?repository={APP}", headers=basic("puller")).status_code == 200
    assert client.delete(f"{PREFIX}/readonly", headers=basic("root")).json["readonly"] is True
    assert (
        client.delete(f"{PREFIX}/tags?repository={APP}&tag={TAG}", headers=basic("root")).status_code == 200
    )


def test_a_follower_is_read_only_for_good(own: Guarded, tmp_path: Path) -> None:
    """Nobody ends that over the API."""
    chosen = own.settings.model_copy(update={"data": tmp_path, "audit": "off", "follow": tmp_path})
    client = create_app(chosen, own.registry).test_client(use_cookies=False)
    there = replace(own, client=client)
    for operation in OPERATIONS:
        if operation.method != "GET":
            answer = send(there, operation, basic("root"), arguments(operation))
            assert answer.status_code == (400 if operation.while_readonly else 405), operation.name


@pytest.mark.parametrize("limits", [{"size": -1}, {"size": 1, "soft": -1}])
def test_no_quota_is_negative(own: Guarded, limits: dict[str, int]) -> None:
    """Commands take no such number; JSON has them."""
    given = {"pattern": "team/*", **limits}
    answer = own.client.post(f"{PREFIX}/quotas", json=given, headers=basic("root"))
    assert (answer.status_code, "negative" in answer.text) == (400, True)
    assert own.client.get(f"{PREFIX}/quotas", headers=basic("root")).json == []


@pytest.mark.parametrize(
    ("path", "member", "others", "limit"),
    [
        ("readonly", "reason", {}, 500),
        ("groups", "account", {"group": "dev"}, 255),
        ("groups", "group", {"account": "alice"}, 64),
    ],
)
def test_texts_have_a_limit(
    own: Guarded, tmp_path: Path, path: str, member: str, *, others: dict[str, str], limit: int
) -> None:
    """Which the answer names, without repeating what was too long; nor may they be empty."""
    app = create_app(own.settings.model_copy(update={"data": tmp_path, "audit": "off"}), own.registry)
    client = app.test_client(use_cookies=False)
    for text, status in (("x" * limit, 200), ("x" * (limit + 1), 400), ("x" * 65_000, 400), ("", 400)):
        given = {member: text, **others}
        answer = client.post(f"{PREFIX}/{path}", json=given, headers=basic("root"))
        assert answer.status_code == status, text[:9]
        assert (str(limit) in answer.text, len(answer.text) < 1000) == (status == 400, True)


@pytest.mark.slow
def test_all_time_is_looked_back(own: Guarded) -> None:
    """Also before the first day of the calendar."""
    answer = own.client.get(f"{PREFIX}/clients?since=999999d", headers=basic("root"))
    assert answer.status_code == 200
