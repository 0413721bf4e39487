"""Pages of access: rules, what they decide, accounts, groups and keys, and what their forms do."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.auth.conftest import Guarded
from tests.ui.conftest import Browser

#: Forms, with what they send besides the token.
FORMS = (
    ("/ui/access", {"who": "writer", "pattern": "*", "actions": "admin"}),
    ("/ui/access/revoke", {"who": "root", "pattern": "*"}),
    ("/ui/accounts", {"name": "root", "change": "disable"}),
    ("/ui/groups", {"group": "admins", "account": "writer"}),
    ("/ui/access/keys/revoke", {"id": "none"}),
)


def rules(own: Guarded) -> list[str]:
    """Return the rules, each in a line."""
    return [f"{each.who} {each.pattern} {' '.join(sorted(each.actions))}" for each in own.accounts.rules()]


@pytest.mark.parametrize("account", ["", "writer"])
def test_who_may_change_access(own: Guarded, account: str) -> None:
    """Administrators alone."""
    browser, page, before = Browser.of(own, account), "/ui/" if account else "/ui/login", rules(own)
    answers = [browser.post(path, page=page, **form) for path, form in FORMS]
    assert {answer.status_code for answer in answers} == {403}
    assert rules(own) == before
    assert Browser.of(own, "root").get("/ui/access").status_code == 200


def test_granting_and_revoking(own: Guarded) -> None:
    """What there is not yet is said; pages and rules agree; what is invalid is refused."""
    browser = Browser.of(own, "root")
    answer = browser.post("/ui/access", who="reader", pattern="web/*", actions="pull,push")
    assert answer.status_code == 200
    assert "There is no" not in answer.text
    assert "reader web/* pull push" in rules(own)
    assert (
        "There is no account later"
        in browser.post("/ui/access", who="later", pattern="web/*", actions="pull").text
    )
    assert "web/*" in browser.get("/ui/access").text
    assert browser.post("/ui/access", who="reader", pattern="web/*", actions="fly").status_code == 400
    assert browser.post("/ui/access/revoke", who="reader", pattern="web/*").status_code == 303
    assert "reader web/* pull push" not in rules(own)
    assert browser.post("/ui/access/revoke", who="reader", pattern="web/*").status_code == 400


@pytest.mark.parametrize(
    ("who", "action", "repository", "said"),
    [
        ("reader", "pull", "team/app", "Yes: by the rule reader team/* pull"),
        ("reader", "push", "team/app", "No: no rule allows it"),
        ("", "pull", "team/app", "No: no rule allows it"),
        ("gone", "pull", "team/app", "(there is no account gone)"),
    ],
)
def test_explaining(own: Guarded, who: str, action: str, repository: str, said: str) -> None:
    """As the command does."""
    text = (
        Browser.of(own, "root").get("/ui/access/explain", who=who, action=action, repository=repository).text
    )
    assert said in text
    assert f'<option value="{action}" selected>' in text


def test_what_cannot_be_explained(own: Guarded) -> None:
    """Is refused."""
    browser = Browser.of(own, "root")
    for query in ({}, {"repository": "UPPER"}, {"repository": "a", "action": "fly"}):
        assert browser.get("/ui/access/explain", **query).status_code == 400


def test_accounts(own: Guarded) -> None:
    """They are disabled, enabled, unlocked and logged out."""
    browser, writer = Browser.of(own, "root"), Browser.of(own, "writer")

    def change(name: str) -> tuple[int, str]:
        answer = browser.post("/ui/accounts", name="writer", change=name)
        row = browser.get("/ui/accounts").text.partition('<th scope="row">writer<')[2].partition("</tr>")[0]
        return answer.status_code, re.findall(r'name="change" value="(\w+)"', row)[0]

    assert "<span>writer</span>" in writer.get("/ui/").text
    assert change("logout") == (303, "disable")
    assert "<span>writer</span>" not in writer.get("/ui/").text
    assert change("disable") == (303, "enable")
    assert writer.log_in("writer").status_code == 401
    assert change("enable") == (303, "disable")
    assert change("unlock") == (303, "disable")
    assert writer.log_in("writer").status_code == 303
    assert change("remove") == (400, "disable")


def test_groups_and_keys(own: Guarded) -> None:
    """Members come and go; keys are revoked."""
    browser = Browser.of(own, "root")
    assert browser.post("/ui/groups", group="team", account="reader", change="add").status_code == 303
    assert own.accounts.memberships() == [("team", "reader")]
    assert '<th scope="row">team</th><td>reader</td>' in browser.get("/ui/groups").text
    assert browser.post("/ui/groups", group="team", account="reader", change="remove").status_code == 303
    assert browser.post("/ui/groups", group="team", account="reader", change="remove").status_code == 400
    assert "There are none." in browser.get("/ui/groups").text
    own.accounts.add_key("writer", limits="", note="nightly")
    text = browser.get("/ui/access/keys").text
    assert "nightly" in text
    (found,) = re.findall(r'name="id" value="([^"]+)"', text)
    assert browser.post("/ui/access/keys/revoke", id=found).status_code == 303
    assert "There are none." in browser.get("/ui/access/keys").text


def test_rules_of_a_file(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Those of the catalog are shown as ignored, without a form."""
    file = tmp_path / "rules"
    file.write_text("root * admin,manage\n")
    own = guard(permissions=str(file))
    own.account("root")
    text = Browser.of(own, "root").get("/ui/access").text
    assert f"The rules in effect are those in {file}" in text
    assert 'action="/ui/access"' not in text
