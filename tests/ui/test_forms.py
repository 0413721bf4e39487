"""Forms that are refused: they are shown again, with the reason beside them, and with what was typed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.auth.conftest import Guarded
from tests.ui.conftest import ORIGIN, Browser
from tests.ui.test_pages import HOSTILE, PAGES

SECRET = "typed-by-nobody-else"
#: Forms that take any text, and show what they find.
ACCEPTING = {"/ui/repositories", "/ui/repository", "/ui/formats", "/ui/layer"}


@dataclass
class Form:
    """A form of a page: where it is sent, how, and its fields by name, with their types."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The fields that people type into, but passwords."""
        return [name for name, kind in self.fields.items() if kind in ("text", "search", "date")]


class Forms(HTMLParser):
    """The forms of a page, and what each field has."""

    def __init__(self, text: str) -> None:
        """Read *text*."""
        super().__init__()
        self.found: list[Form] = []
        self.values: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and "action" in given:
            self.found.append(Form(given["action"], given.get("method", "get")))
        if tag == "input" and "name" in given:
            self.found[-1].fields[given["name"]] = given.get("type", "text")
            self.values.append((given["name"], given.get("value", "")))
            if given.get("type") == "hidden":
                self.found[-1].hidden[given["name"]] = given.get("value", "")


def forms(browser: Browser) -> Iterator[tuple[str, Form]]:
    """Yield each form into which somebody types, with its page."""
    seen = set[tuple[str, ...]]()
    for path in PAGES:
        for form in Forms(browser.get(path).text).found:
            key = (form.action, *sorted(form.fields))
            if (form.texts or "password" in form.fields.values()) and key not in seen:
                seen.add(key)
                yield path, form


def send(browser: Browser, page: str, form: Form, given: dict[str, str]) -> Any:
    """Send a form."""
    if form.method == "get":
        return browser.get(form.action, **given)
    return browser.post(form.action, page=page, **given)


@pytest.mark.parametrize("account", ["", "root"])
def test_every_form_keeps_what_was_typed(own: Guarded, account: str) -> None:
    """Whichever there are on any page: what is not accepted is still there, as text, and no password is."""
    browser, refused = Browser.of(own, account), set[str]()
    for page, form in [*forms(browser)]:
        given = form.hidden | {name: f"{HOSTILE}{name}" for name in form.texts}
        given |= {name: f"{SECRET}{name}" for name, kind in form.fields.items() if kind == "password"}
        answer = send(browser, page, form, given)
        assert SECRET not in answer.text
        assert "alert(1)</script>" not in answer.text
        shown = {(name, value.lower()) for name, value in Forms(answer.text).values}
        assert {(name, given[name].lower()) for name in form.texts} <= shown, form
        if form.action in ACCEPTING:
            assert answer.status_code == 200
            continue
        assert 400 <= answer.status_code < 500, (form, answer.text)
        assert answer.text.count('role="alert"') == 1, (form, answer.text)
        refused.add(form.action)
    assert refused == (
        {"/ui/login"}
        if not account
        else {
            "/ui/login", "/ui/access", "/ui/access/explain", "/ui/groups", "/ui/account/keys",
            "/ui/account/password", "/ui/audit", "/ui/webhooks", "/ui/usage/quota", "/ui/comparison",
        }
    )  # fmt: skip


def test_what_is_chosen_stays_chosen(own: Guarded) -> None:
    """Lists and boxes, too; a form that was not refused has what it begins with."""
    browser = Browser.of(own, "root")
    answer = browser.post("/ui/account/keys", note="laptop", scope="everything", expires="365d")
    assert answer.status_code == 400
    assert '<option value="365d" selected>' in answer.text
    assert re.findall(r'value="(\w*)" selected', browser.get("/ui/account").text) == ["90d"]
    answer = browser.post("/ui/webhooks", name="ci", url="ftp://x/", actions="delete", format="docker")
    assert answer.status_code == 400
    assert '<option value="docker" selected>' in answer.text
    assert re.findall(r'value="(\w+)" checked', answer.text) == ["delete"]
    assert re.findall(r'value="(\w+)" checked', browser.get("/ui/webhooks").text) == ["push", "delete"]
    query = {"who": "reader", "repository": "UPPER", "action": "push"}
    assert '<option value="push" selected>' in browser.get("/ui/access/explain", **query).text
    answer = browser.get("/ui/formats", pattern="team/*", client="docker-0.1", unsolved="1")
    assert (answer.status_code, 'value="1" checked' in answer.text) == (400, True)
    assert ("pattern", "team/*") in Forms(answer.text).values


def test_a_form_of_another_page_is_not_shown_again(own: Guarded) -> None:
    """Nobody has a form here filled in by another page, for somebody to send it."""
    browser = Browser.of(own, "root")
    data = {"token": browser.token("/ui/access"), "who": "mallory", "pattern": "*", "actions": "fly"}
    for headers in (
        {"Origin": "https://evil.example"},
        {},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = browser.client.post("/ui/access", data=data, headers=headers)
        assert (answer.status_code, "mallory" in answer.text) == (403, False)


def test_what_may_not_be_seen_is_not_shown_with_a_form(own: Guarded) -> None:
    """Who may not open the page of a form gets the refusal alone."""
    browser = Browser.of(own, "writer")
    for path, given in (
        ("/ui/access", {"who": "writer", "pattern": "*", "actions": "admin"}),
        ("/ui/groups", {"group": "admins", "account": "writer"}),
        ("/ui/webhooks", {"name": "mine", "url": "https://x.example/", "format": "docker"}),
    ):
        answer = browser.post(path, **given)
        assert (answer.status_code, 'name="pattern"' in answer.text, 'role="alert"' in answer.text) == (
            403, False, False,
        )  # fmt: skip
    for path in ("/ui/audit", "/ui/audit?since=x", "/ui/formats", "/ui/access/explain?repository=team/app"):
        answer = browser.get(path)
        assert (answer.status_code, 'role="search"' in answer.text) == (403, False)


def test_a_form_of_a_read_only_registry(own: Guarded) -> None:
    """Keeps what was typed for later."""
    browser = Browser.of(own, "root")
    (own.settings.data / "readonly.json").write_text('{"reason": "moving", "since": ""}')
    try:
        answer = browser.post("/ui/groups", group="team", account="reader", change="add")
    finally:
        (own.settings.data / "readonly.json").unlink()
    assert (answer.status_code, "this registry is read-only: moving." in answer.text.lower()) == (405, True)
    assert {("group", "team"), ("account", "reader")} <= {*Forms(answer.text).values}
    assert own.accounts.memberships() == []


def test_a_webhook_is_added(own: Guarded) -> None:
    """It sends what was chosen; that its events are not signed is said before."""
    browser = Browser.of(own, "root")
    assert "Its events are not signed" in browser.get("/ui/webhooks").text
    answer = browser.post(
        "/ui/webhooks",
        name="mirror",
        url="https://mirror.example/hook?token=x",
        patterns="team/* other/app:v*",
        actions=["push"],
        format="docker",
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/webhook?name=mirror")
    row = own.registry.webhooks.find("mirror")
    assert (row.patterns, row.actions, row.format) == (("team/*", "other/app:v*"), ("push",), "docker")
    text = browser.get("/ui/webhook", name="mirror").text
    assert "token=x" not in text
    for wrong, said in (
        ({"name": "mirror"}, "there is a webhook mirror"),
        ({"actions": []}, "action"),
        ({"actions": ["fly"]}, "expected push, delete"),
        ({"format": "xml"}, "expected cloudevents, docker"),
    ):
        form = {"name": "more", "url": "https://x.example/", "actions": ["push"], "format": "docker"} | wrong
        answer = browser.post("/ui/webhooks", **form)
        assert (answer.status_code, said in answer.text) == (400, True), answer.text
