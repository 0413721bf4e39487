"""Pages about the move: runs of migrations as they go on, and V1 clients as they become fewer."""

from datetime import UTC, datetime, timedelta

import pytest

from dualreg.catalog.rows import ClientRow
from dualreg.migrate import journal
from dualreg.migrate.journal import Journal
from dualreg.web.ui.plots import bars
from tests.auth.conftest import Guarded
from tests.ui.conftest import WEB, Browser

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
    assert step is None or f"v1 = &#34;{step}&#34;" in text or f'v1 = "{step}"' in text


def test_bars() -> None:
    """They are as high as their numbers, within the drawing; of nothing but zeros, none is seen."""
    plot = bars([("a", 0, "0 B"), ("b", 5, "5 B"), ("c", 10, "10 B")])
    assert [bar.height for bar in plot.bars] == [0, plot.height / 2, plot.height]
    assert [round(bar.y + bar.height, 6) for bar in plot.bars] == [plot.height] * 3
    assert plot.bars[-1].x + plot.bars[-1].width <= plot.width
    assert (plot.first, plot.last, plot.top) == ("a", "c", "10 B")
    assert [bar.height for bar in bars([("a", 0, "0")]).bars] == [0]
