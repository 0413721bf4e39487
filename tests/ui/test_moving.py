"""Pages about the move: runs of migrations as they go on, and V1 clients as they become fewer."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dualreg.catalog.rows import ClientRow
from dualreg.migrate import journal
from dualreg.migrate.journal import Journal
from dualreg.web.ui.plots import bars
from tests.auth.conftest import Guarded, basic
from tests.ui.conftest import APP, ORIGIN, WEB, Browser

FAREWELL = "/ui/farewell"
#: The buttons that switch V1.
BUTTON = re.compile(r'name="v1" value="(\w+)"')
SOURCE = "v1-tree:/srv/<b>old</b>; rm"
TAG = {
    "source": "a:1", "repository": "a", "tag": "1", "image": "", "status": "skipped", "digest": "",
    "bytes": 1, "reason": "partial: <script>: an unfinished push",
}  # fmt: skip


def test_a_run(own: Guarded) -> None:
    """While it is running, htmx reads it again, and without scripts a link does; what is in it is escaped."""
    folder = own.settings.journals
    writing = Journal(folder, datetime(2026, 1, 1, tzinfo=UTC), SOURCE)
    writing.write_all("tag", [TAG])
    run = writing.path.stem
    browser = Browser.of(own, "root")
    with journal.exclusive(folder):
        running = browser.get("/ui/migrations/run", run=run).text
    writing.write("end", stopped=False)
    ended = browser.get("/ui/migrations/run", run=run).text
    assert f'hx-get="/ui/migrations/run?run={run}" hx-trigger="every 5s"' in running
    assert "Look again" in running
    assert "running" in running
    assert "hx-trigger" not in ended
    for text in (running, ended):
        assert "push it to the old registry again, or leave it out" in text
        assert "&lt;script&gt;" in text
        assert "<b>old" not in text
        assert f"dualreg migrate rollback {run} --dry-run" in text
        assert "dualreg migrate verify &#39;v1-tree:/srv/&lt;b&gt;old&lt;/b&gt;; rm&#39;" in text
    listed = browser.get("/ui/migrations").text
    assert f'href="/ui/migrations/run?run={run}"' in listed
    assert "1 skipped" in listed
    assert browser.get("/ui/migrations/run", run="none").status_code == 400
    assert Browser.of(own, "writer").get("/ui/migrations/run", run=run).status_code == 403


@pytest.mark.parametrize("mode", ["on", "readonly", "off"])
def test_the_farewell(own: Guarded, mode: str) -> None:
    """The next step is named with its setting, and is not safe while somebody needs what it ends."""
    catalog = own.registry.state.catalog
    with catalog.begin() as tx:
        seen = tx.now - timedelta(days=1)
        tx.clients.record([ClientRow("192.0.2.1", "docker/1.<5>.0", WEB, seen, seen, 3, 0)])
    own.settings.__dict__["v1"] = mode
    text = Browser.of(own, "root").get("/ui/farewell").text
    assert "docker/1.&lt;5&gt;.0" in text
    assert "192.0.2.1" in text
    assert ("V1 is off already." in text) == (mode == "off")
    assert ("Not yet." in text) == (mode != "off")
    step = {"on": "readonly", "readonly": "off"}.get(mode)
    assert (f"Is it safe to switch V1 to {step}?" in text) == (step is not None)
    assert BUTTON.findall(text) == {"on": ["readonly", "off"], "readonly": ["off"], "off": []}[mode]
    assert ("The setting allows nothing else." in text) == (mode == "off")


def test_v1_is_switched(own: Guarded, tmp_path: Path) -> None:
    """By an administrator, and back; a V1 client meets it with its next request; the audit log knows."""
    browser = Browser.of(own, "root")
    headers = basic("writer")

    def push() -> int:
        begun = own.client.put("/v1/repositories/team/new/", data=b"[]", headers=headers)
        return int(begun.status_code)

    assert push() == 200
    for mode, code, buttons in (
        ("readonly", 405, ["on", "off"]),
        ("off", 404, ["on", "readonly"]),
        ("on", 200, ["readonly", "off"]),
    ):
        answer = browser.post(FAREWELL, v1=mode)
        assert (answer.status_code, answer.headers["Location"]) == (303, FAREWELL)
        assert push() == code
        text = browser.get(FAREWELL).text
        assert BUTTON.findall(text) == buttons
        assert f"V1 is {mode} now; the setting <code>v1</code> is on" in text
        assert ("it was switched at" in text) == (mode != "on")
        assert (f"V1 was switched to {mode}" in text) == (mode != "on")
        assert ("docker before 1.6" in browser.get("/ui/").text) == (mode == "on")
        image = browser.get("/ui/image", repository=APP, reference="v1").text
        assert ("docker before 1.6" in image) == (mode != "off")
    answer = browser.post(FAREWELL, v1="half")
    assert (answer.status_code, "expected on, readonly, off" in answer.text) == (400, True)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["account"], line["v1"]) for line in lines if line.get("command") == "v1 set"] == [
        ("root", "readonly"),
        ("root", "off"),
        ("root", "on"),
    ]


@pytest.mark.parametrize("account", ["", "reader", "writer"])
def test_who_may_switch_v1(own: Guarded, account: str) -> None:
    """Administrators alone, by a form of ours; with ``ui = "readonly"``, nobody."""
    form = {"v1": "off"}
    page = "/ui/" if account else "/ui/login"
    assert Browser.of(own, account).post(FAREWELL, page=page, **form).status_code == 403
    root = Browser.of(own, "root")
    for token in ("", Browser.of(own, "writer").token("/ui/")):
        answer = root.client.post(FAREWELL, data={"token": token, **form}, headers={"Origin": ORIGIN})
        assert answer.status_code == 403
    own.settings.__dict__["ui"] = "readonly"
    assert root.post(FAREWELL, **form).status_code == 403
    assert BUTTON.findall(root.get(FAREWELL).text) == []
    assert own.registry.v1_switch.look("on").v1 == "on"


def test_bars() -> None:
    """They are as high as their numbers, within the drawing; of nothing but zeros, there are none."""
    plot = bars([("a", 0, "0 B"), ("b", 5, "5 B"), ("c", 10, "10 B")])
    assert [bar.height for bar in plot.bars] == [0, plot.height / 2, plot.height]
    assert [round(bar.y + bar.height, 6) for bar in plot.bars] == [plot.height] * 3
    assert plot.bars[-1].x + plot.bars[-1].width <= plot.width
    assert (plot.first, plot.last, plot.top) == ("a", "c", "10 B")
    assert [*bars([("a", 0, "0")]).bars] == []
