"""Pages of operations: tasks, webhooks and the audit log, and what their forms do."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.webhooks import WebhookRow
from tests.auth.conftest import Guarded
from tests.conftest import Clock
from tests.ui.conftest import HOOK, IMAGES, Browser, run_tasks

#: Forms, with what they send besides the token.
FORMS = {
    "/ui/tasks": {"name": "gc"},
    "/ui/webhooks": {"name": "mine", "url": "https://x.example/", "actions": "push", "format": "docker"},
    "/ui/webhook/remove": {"name": HOOK},
    "/ui/webhook/replay": {"name": HOOK},
    "/ui/webhook/retry": {"name": HOOK},
    "/ui/webhook/ping": {"name": HOOK},
}


def test_a_task_is_started(own: Guarded, tmp_path: Path) -> None:
    """By a button, of which the audit log knows; what cannot be started is said."""
    started: list[str] = []
    run_tasks(own, started.append)
    browser = Browser.of(own, "root")
    text = browser.get("/ui/tasks").text
    assert re.findall(r'name="name" value="(gc)"', text) == ["gc"]
    answer = browser.post("/ui/tasks", name="gc")
    assert (answer.status_code, answer.headers["Location"], started) == (303, "/ui/tasks", ["gc"])
    answer = browser.post("/ui/tasks", name="none")
    assert answer.status_code == 400
    assert "none" in answer.text
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(each["account"], each["task"]) for each in lines if each.get("command") == "tasks run"] == [
        ("root", "gc")
    ]


def test_servers_without_tasks(guarded: Guarded) -> None:
    """Say so, and still lead to the pages beside."""
    guarded.account("root", ("*", "admin,manage"))
    browser = Browser.of(guarded, "root")
    answer = browser.get("/ui/tasks")
    assert answer.status_code == 400
    assert "this server runs no tasks" in answer.text
    assert '<a href="/ui/webhooks">' in answer.text
    assert "there is no audit log" in browser.get("/ui/audit").text


@pytest.mark.parametrize("account", ["", "writer"])
def test_who_may_send_forms(own: Guarded, account: str) -> None:
    """Administrators alone."""
    browser, page = Browser.of(own, account), "/ui/" if account else "/ui/login"
    answers = [browser.post(path, page=page, **form) for path, form in FORMS.items()]
    assert {answer.status_code for answer in answers} == {403}
    assert [each.webhook.name for each in own.registry.webhooks.list()] == [HOOK]


def test_pages_that_change_nothing(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """With ``ui = readonly``, administrators look, and are shown no button."""
    own = guard(ui="readonly", audit=str(tmp_path / "audit"))
    own.account("root", ("*", "admin,manage"))
    run_tasks(own, lambda _: None)
    browser = Browser.of(own, "root")
    for path in ("/ui/tasks", "/ui/webhooks", "/ui/audit"):
        assert browser.get(path).text.count('method="post"') == 1, path  # that logs out
    assert browser.post("/ui/tasks", name="gc").status_code == 403


def test_events_of_a_webhook(own: Guarded, catalog: Catalog, clock: Clock) -> None:
    """They are listed while they wait, and when they were given up; what is ticked is sent again, or all."""
    count = own.registry.webhooks.replay(HOOK, since=clock.instant - timedelta(days=1))
    assert count >= len(IMAGES)
    browser = Browser.of(own, "root")

    def listed(**query: str) -> list[str]:
        text = browser.get("/ui/webhook", name=HOOK, **query).text
        return re.findall(r"<td>([a-z/]+:[a-z0-9]+)</td>", text)

    assert "team/app:v1" in listed()
    assert (len(listed()), listed(dead="1")) == (count, [])
    with catalog.begin() as tx:
        tx.webhooks.outbox.give_up(HOOK, None, clock.instant, "no answer")
    text = browser.get("/ui/webhook", name=HOOK, dead="1").text
    ids = re.findall(r'type="checkbox" name="id" value="(\d+)"', text)
    assert (len(ids), listed(), text.count("no answer")) == (count, [], count)
    answer = browser.post("/ui/webhook/replay", name=HOOK, id=ids[:2])
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/ui/webhook?name={HOOK}")
    assert (len(listed()), len(listed(dead="1"))) == (2, count - 2)
    browser.post("/ui/webhook/replay", name=HOOK)
    assert (len(listed()), listed(dead="1")) == (count, [])
    assert browser.post("/ui/webhook/retry", name=HOOK).status_code == 303


def test_a_ping_that_is_not_delivered(own: Guarded) -> None:
    """Its page says why."""
    row = WebhookRow("local", "http://127.0.0.1:9/hook", "cloudevents", ("*",), ("push",))
    own.registry.webhooks.add(row)
    answer = Browser.of(own, "root").post("/ui/webhook/ping", name="local")
    assert answer.status_code == 200
    assert "The ping was not delivered" in answer.text


def test_a_webhook_is_removed(own: Guarded) -> None:
    """After a page that says what is forgotten; what there is not is said."""
    browser = Browser.of(own, "root")
    assert browser.post("/ui/webhook/remove", name="none").status_code == 400
    assert browser.get("/ui/webhook", name="none").status_code == 400
    answer = browser.post("/ui/webhook/remove", name=HOOK)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/webhooks")
    assert "There are none." in browser.get("/ui/webhooks").text


def test_events_that_there_are_not(own: Guarded) -> None:
    """Are refused."""
    browser = Browser.of(own, "root")
    for ids in (["x"], ["-1"], ["9" * 30], ["99999"]):
        assert browser.post("/ui/webhook/replay", name=HOOK, id=ids).status_code == 400


def test_the_search_of_the_audit_log(own: Guarded, clock: Clock) -> None:
    """By account, event and day; a day is one in UTC, with its end; pages go on where the last one ended."""
    for account in ("reader", "writer"):
        Browser.of(own, account)
    browser = Browser.of(own, "root")
    assert browser.get("/ui/audit").text.count("<td>log in</td>") == 3
    assert browser.get("/ui/audit", account="reader").text.count("<td>log in</td>") == 1
    today = f"{clock.instant:%Y-%m-%d}"
    assert browser.get("/ui/audit", since=today, until=today).text.count("<td>log in</td>") == 3
    for query, code in (({"since": "x"}, 400), ({"until": "9999-12-31"}, 400), ({"after": "x"}, 400)):
        assert browser.get("/ui/audit", **query).status_code == code, query
