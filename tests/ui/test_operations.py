"""Pages of operations: tasks, webhooks and the audit log, and what their forms do."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.retention import RetentionRule
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import usage
from dualreg.web import context
from tests.auth.conftest import Guarded
from tests.conftest import Clock
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, HOOK, IMAGES, WEB, Browser, run_tasks

#: Forms, with what they send besides the token.
FORMS = {
    "/ui/tasks": {"name": "gc"},
    "/ui/webhooks": {"name": "mine", "url": "https://x.example/", "actions": "push", "format": "docker"},
    "/ui/usage/quota": {"pattern": "*", "size": "1g"},
    "/ui/usage/quota/remove": {"pattern": "*"},
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
    for path in ("/ui/operations", "/ui/usage", "/ui/tasks", "/ui/webhooks", "/ui/audit"):
        assert browser.get(path).text.count('method="post"') == 1, path  # that logs out
    assert browser.post("/ui/tasks", name="gc").status_code == 403


def test_events_of_a_webhook(own: Guarded, catalog: Catalog, clock: Clock) -> None:
    """They are listed while they wait, and when they were given up; what is ticked is sent again, or all."""
    count = own.registry.webhooks.replay(HOOK, since=clock.instant - timedelta(days=1))
    assert count >= len(IMAGES)
    browser = Browser.of(own, "root")

    def listed(**query: str) -> list[str]:
        text = browser.get("/ui/webhook", name=HOOK, **query).text
        return re.findall(r'<td class="text">([a-z/]+:[a-z0-9]+)</td>', text)

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


def test_the_state_of_the_registry(own: Guarded, tmp_path: Path) -> None:
    """What fails, as ``/readyz`` says it, whether anything may be changed, and how much room there is."""
    browser = Browser.of(own, "root")
    text = browser.get("/ui/operations").text
    assert "All is well" in text
    assert re.search(r"Free on the disk</dt><dd><data value=\"\d+\">", text)
    assert re.search(r"serves since</dt><dd><time", text)
    with own.client.application.app_context():
        context.writes().set_mark("moving & more", own.registry.now())
        (tmp_path / "audit.jsonl").unlink()
        (tmp_path / "audit.jsonl").mkdir()
    text = browser.get("/ui/operations").text
    assert "The registry is read-only: moving &amp; more" in text
    assert "audit fails:</strong>" in text
    assert "All is well" not in text


def test_growth_by_day(own: Guarded, clock: Clock) -> None:
    """Plots, and the numbers of all days that they show; days that were not noted are there, too."""
    browser = Browser.of(own, "root")
    assert "not noted" in browser.get("/ui/operations").text
    stored = own.registry.growth.note()
    clock.advance(timedelta(days=2))
    for _ in range(7):
        own.registry.tags.record_pull(APP, Tag("v1"))
    own.registry.tags.pulls.flush()
    text = Browser.of(own, "root").get("/ui/operations").text
    assert text.count("<rect") == 2 * 3
    assert "at most 7" in text
    rows = [
        re.findall(r"<td[^>]*>(?:<data[^>]*>)?([^<]*)", row)
        for row in text.partition('id="numbers"')[2].split("<tr>")[2:]
    ]
    assert [row[:2] for row in rows] == [["7", "0"], ["0", "0"], ["0", "0"]]
    assert [row[2] for row in rows] == ["not noted", "not noted", f"{stored.repositories}"]
    assert rows[2][4] == f"{stored.blobs}"


def test_what_a_task_would_delete(own: Guarded, clock: Clock) -> None:
    """Is shown before it is started, and nothing is changed by looking."""
    own.registry.retention.add(RetentionRule("team/*", newest=1, matching=("same",)))
    browser = Browser.of(own, "root")
    assert "would delete 2 tags of 5" in browser.get("/ui/operations/preview", name="retention").text
    text = browser.get("/ui/operations/preview", name="retention").text
    assert len(re.findall(r'<th scope="row">team/app:\w+<', text)) == 2
    own.registry.repositories.delete(WEB)
    clock.advance(timedelta(days=60))
    browser = Browser.of(own, "root")
    text = browser.get("/ui/operations/preview", name="gc").text
    assert re.search(r"would delete .* [1-9]\d* blobs? of \d+ bytes\. Nothing was changed", text)
    assert browser.get("/ui/operations/preview", name="gc").text == text
    assert browser.get("/ui/operations/preview", name="scrub").status_code == 400
    assert browser.get("/ui/operations/preview").status_code == 400
    assert 'value="retention"><button>Preview' in browser.get("/ui/operations").text
    with own.client.application.app_context():
        turn = context.parts().previews
    with turn:  # another request makes one
        answer = browser.get("/ui/operations/preview", name="gc")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    assert browser.get("/ui/operations/preview", name="gc").status_code == 200


def test_open_registries_show_no_previews(guard: Callable[..., Guarded]) -> None:
    """These take long; everybody still sees how the tasks are."""
    own = guard(auth="none")
    run_tasks(own, lambda _: None)
    browser = Browser.of(own)
    text = browser.get("/ui/operations").text
    assert "<button>Preview" not in text
    assert browser.get("/ui/operations/preview", name="gc").status_code == 403
    assert browser.get("/ui/tasks").status_code == 200


def test_quotas(own: Guarded) -> None:
    """Are set, changed and removed by forms; how full they are is said; what is no size is refused."""
    browser = Browser.of(own, "root")

    def send(path: str, **form: str) -> int:
        return int(browser.post(path, page="/ui/usage", **form).status_code)

    assert send("/ui/usage/quota", pattern="team/*", size="1k", soft="") == 303
    assert send("/ui/usage/quota", pattern="team/*", size="20g", soft="18g") == 303
    assert send("/ui/usage/quota", pattern="x", size="0") == 303
    (other, team) = sorted(own.registry.quotas.list(), key=lambda each: each.size)
    assert (team.pattern, team.size, team.soft) == ("team/*", 20 << 30, 18 << 30)
    text = browser.get("/ui/usage").text
    assert other.pattern == "x"
    assert re.findall(r'<td class="number">(\d+ %|not counted)</td>', text) == ["0 %", "100 %"]
    for size, soft in (("", ""), ("many", ""), ("1k", "many"), ("1k", "2k"), ("9" * 29, "")):
        assert send("/ui/usage/quota", pattern="y", size=size, soft=soft) == 400, size
    assert send("/ui/usage/quota", pattern="a?", size="1k") == 400
    assert send("/ui/usage/quota/remove", pattern="y") == 400
    assert send("/ui/usage/quota/remove", pattern="x") == 303
    assert [each.pattern for each in own.registry.quotas.list()] == ["team/*"]


def test_namespaces(own: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their bytes, which lead to what is in them; large ones are not added up; a depth is one of few."""
    browser = Browser.of(own, "root")
    push_v2(own.registry, RepositoryName("alone"), Tag("v1"), IMAGES[0])
    text = browser.get("/ui/usage").text
    found = re.findall(r'<th scope="row"><a href="([^"]*)">([^<]*)</a>', text)
    assert found == [
        ("/ui/repository?repository=alone", "alone"),
        ("/ui/repositories?under=secret/", "secret"),
        ("/ui/repositories?under=team/", "team"),
    ]
    assert browser.get("/ui/usage", depth="2").text.count('<th scope="row"><a') == 4
    monkeypatch.setattr(usage, "BRIEF_LIMIT", 4)
    assert browser.get("/ui/usage", after="secret/~").text.count("more than 5,000 blobs") == 1
    assert [browser.get("/ui/usage", depth=depth).status_code for depth in ("0", "6", "x", "")] == [400] * 4
