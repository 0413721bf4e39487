"""``/api/v1/permissions``: accounts that have manage change rules within their patterns, and no others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualreg.auth.access import Action
from tests.auth import test_forged_tokens as forged
from tests.auth.conftest import Guarded, basic

RULES = "/api/v1/permissions"


def grant(own: Guarded, headers: dict[str, str], line: str) -> Any:
    """Add a rule, as a line: who, pattern and actions."""
    who, pattern, actions = line.split()
    body = {"who": who, "pattern": pattern, "actions": actions.split(",")}
    return own.client.post(RULES, headers=headers, json=body)


def revoke(own: Guarded, headers: dict[str, str], line: str) -> Any:
    """Take a rule away; without actions, all of it."""
    names = ("who", "pattern", "actions")
    return own.client.delete(
        RULES, headers=headers, query_string=dict(zip(names, line.split(), strict=False))
    )


def lines(own: Guarded, headers: dict[str, str]) -> list[str]:
    """Return the rules that are listed, as lines."""
    found = own.client.get(RULES, headers=headers).json["permissions"]
    return [f"{each['who']} {each['pattern']} {','.join(each['actions'])}" for each in found]


@pytest.fixture
def team(guarded: Guarded) -> Guarded:
    """A registry in which lead manages team/*, and what there is besides."""
    guarded.account("lead", ("team/*", "pull,manage"))
    guarded.account("boss", ("team/*", "admin"), ("team/*", "manage"), ("other", "manage"))
    guarded.account("alice")
    guarded.accounts.join("dev", "alice")
    guarded.accounts.grant("authenticated", "home/{account}/*", "manage")
    return guarded


@pytest.mark.parametrize(
    ("who", "line", "status"),
    [
        ("lead", "alice team/app pull,push,delete", 200),
        ("lead", "@dev team/* pull", 200),
        ("lead", "alice team/{account}/* push", 200),
        ("lead", "alice team/a*b pull", 200),
        ("lead", "authenticated team/app pull", 200),
        ("lead", "lead team/* push", 200),
        ("lead", "authenticated team/app push", 403),
        ("lead", "anonymous team/app pull", 403),
        ("lead", "alice team pull", 403),
        ("lead", "alice te* pull", 403),
        ("lead", "alice * pull", 403),
        ("lead", "alice teamx/app pull", 403),
        ("lead", "alice {account}/team/app pull", 403),
        ("lead", "alice team/app admin", 403),
        ("lead", "alice team/app manage", 403),
        ("lead", "lead other pull", 403),
        ("lead", "alice home/lead/app pull", 200),
        ("lead", "alice home/alice/app pull", 403),
        ("lead", "alice home/{account}/app pull", 403),
        ("lead", "eve team/app pull", 400),
        ("lead", "@nobody team/app pull", 400),
        ("lead", "alice team/app fly", 400),
        ("lead", "alice team/? pull", 400),
        ("boss", "alice team/app admin", 200),
        ("boss", "alice other admin", 403),
        ("boss", "alice team/app manage", 403),
        ("alice", "alice team/app pull", 403),
        ("alice", "@dev home/alice/x pull", 200),
    ],
)
def test_what_managers_may_give(team: Guarded, who: str, line: str, status: int) -> None:
    """And what they may not: beyond their patterns, to nobody, to everybody, or what they do not have."""
    before = team.accounts.rules()
    answer = grant(team, basic(who), line)
    assert answer.status_code == status, answer.data
    if status != 200:
        assert team.accounts.rules() == before
        return
    name, pattern, actions = line.split()
    given = {rule for rule in team.accounts.rules() if (rule.who, rule.pattern) == (name, pattern)}
    assert set(actions.split(",")) <= next(iter(given)).actions
    assert answer.json["who"] == name
    assert line.rpartition(" ")[0] in "\n".join(lines(team, basic(who)))
    assert revoke(team, basic(who), line).status_code == 200


@pytest.mark.parametrize(
    ("who", "line", "left"),
    [
        ("lead", "alice team/app push", "alice team/app pull"),
        ("lead", "alice team/app", ""),
        ("lead", "anonymous team/open", ""),
        ("lead", "alice team/all", None),
        ("lead", "alice team/all pull", "alice team/all push,admin"),
        ("boss", "alice team/all", ""),
        ("lead", "lead team/*", None),
        ("boss", "lead team/*", None),
        ("lead", "lead team/* pull", "lead team/* manage"),
        ("lead", "alice secret", None),
        ("lead", "alice team/none", None),
    ],
)
def test_what_managers_may_take(team: Guarded, who: str, line: str, left: str | None) -> None:
    """Within their patterns, what they could give; rules of the operator too."""
    for each in ("app pull,push", "all pull,push,admin"):
        team.accounts.grant("alice", *f"team/{each}".split())
    team.accounts.grant("anonymous", "team/open", "pull")
    team.accounts.grant("alice", "secret", "pull")
    before = team.accounts.rules()
    answer = revoke(team, basic(who), line)
    if left is None:
        assert answer.status_code in (400, 403)
        assert team.accounts.rules() == before
        return
    assert answer.status_code == 200, answer.data
    name, pattern = line.split()[:2]
    rest = [rule for rule in team.accounts.rules() if (rule.who, rule.pattern) == (name, pattern)]
    found = [f"{rule.who} {rule.pattern} {','.join(answer.json['actions'])}" for rule in rest]
    assert found == ([left] if left else [])
    assert [set(answer.json["actions"])] == ([set(rest[0].actions)] if rest else [set()])


def test_managers_see_what_is_within_their_patterns(team: Guarded) -> None:
    """And nothing of others."""
    for each in ("alice team/app pull", "alice te* pull", "alice secret pull", "alice team/{account}/x push"):
        team.accounts.grant(*each.split())
    assert lines(team, basic("lead")) == [
        "alice team/app pull",
        "alice team/{account}/x push",
        "boss team/* admin,manage",
        "lead team/* pull,manage",
    ]
    assert lines(team, basic("alice")) == []


def test_manage_is_no_action_on_repositories(team: Guarded) -> None:
    """No token has it, admin does not include it, and it allows to pull nothing."""
    chief = team.account("chief", ("team/*", "admin"))
    assert grant(team, chief, "alice team/app pull").status_code == 403
    team.accounts.ungrant("lead", "team/*", "pull")
    wanted = "repository:team/app:pull,manage,*"
    assert team.ask(wanted, headers=basic("lead")).json["scope"] == ""
    assert team.ask(wanted, headers=chief).json["scope"] == "repository:team/app:pull,push,delete,admin"
    lead = team.authority.by_password("lead", "correct horse", "192.0.2.1")
    assert not [action for action in Action if lead.allows("team/app", action)]
    with pytest.raises(ValueError, match="anonymous"):
        team.accounts.grant("anonymous", "team/*", "manage")


def test_keys_manage_unless_they_are_limited(team: Guarded) -> None:
    """As what they are limited to says nothing of rules."""
    for limits, status in (("", 200), ("repository:team/*:admin", 403)):
        key = team.accounts.add_key("lead", limits=limits, note="", lifetime=None).text
        assert grant(team, basic("lead", key), "alice team/app pull").status_code == status


def test_who_lost_manage_has_lost_it(team: Guarded) -> None:
    """At once; what it gave stays."""
    assert grant(team, basic("lead"), "alice team/app pull").status_code == 200
    team.accounts.ungrant("lead", "team/*", "manage")
    answer = revoke(team, basic("lead"), "alice team/app")
    assert (answer.status_code, "you manage home/lead/*" in answer.text) == (403, True)
    team.accounts.ungrant("authenticated", "home/{account}/*", "manage")
    assert "you do not have the action manage" in revoke(team, basic("lead"), "alice team/app").text
    team.accounts.ungrant("alice", "team/app", None)


def test_groups_of_workloads_and_rules_of_a_file(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """The first are known by the setting; the second are changed in the file."""
    own = guard(**forged.OIDC)
    lead = own.account("lead", ("team/*", "manage"))
    assert grant(own, lead, "@builds team/app pull").status_code == 200
    (tmp_path / "rules").write_text("lead team/* manage\n")
    filed = guard(permissions=str(tmp_path / "rules"))
    assert filed.client.get("/api/v1/me", headers=lead).json["manages"] == ["team/*"]
    for answer in (grant(filed, lead, "lead team/app pull"), revoke(filed, lead, "@builds team/app")):
        assert (answer.status_code, "in a file" in answer.text) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        {"who": "alice", "pattern": "team/app"},
        {"who": "alice", "pattern": "team/app", "actions": []},
        {"who": "alice", "pattern": "team/app", "actions": "pull"},
        {"who": 1, "pattern": "team/app", "actions": ["pull"]},
        {"who": "alice", "pattern": "team/app", "actions": ["pull,push,"]},
    ],
)
def test_bodies_that_are_refused(team: Guarded, body: dict[str, object]) -> None:
    """With a status that says whose mistake it is."""
    assert team.client.post(RULES, headers=basic("lead"), json=body).status_code == 400
    assert team.client.delete(RULES, headers=basic("lead")).status_code == 400


def test_changes_are_recorded(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """With what changed, and by whom; so are denials."""
    own = guard(audit=str(tmp_path / "audit"))
    lead = own.account("lead", ("team/*", "manage"))
    grant(own, lead, "lead team/app pull,push")
    grant(own, lead, "lead secret pull")
    revoke(own, lead, "lead team/app push")
    revoke(own, lead, "lead team/app")
    written = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    names = ("event", "account", "method", "who", "pattern", "actions")
    assert [tuple(line.get(name) for name in names) for line in written] == [
        ("write", "lead", "POST", "lead", "team/app", "pull,push"),
        ("denied", "lead", "POST", None, None, None),
        ("write", "lead", "DELETE", "lead", "team/app", "push"),
        ("write", "lead", "DELETE", "lead", "team/app", "all"),
    ]
