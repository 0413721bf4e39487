"""Tags are deleted and restored by forms: by who may, with lines in the audit log and in the history."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.image.names import Tag
from tests.auth.conftest import Guarded
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, IMAGES, Browser, fill

TAG = f"/ui/image?repository={APP}&reference=v1"
HISTORY = f"/ui/history?repository={APP}&tag=v1"
NAMED = {"repository": APP, "tag": "v1"}


def digest(own: Guarded, tag: str = "v1") -> str:
    """Return what a tag points at; empty: it does not exist."""
    row = own.registry.manifests.peek(APP, Tag(tag))
    return str(row.digest) if row else ""


def test_delete_and_undo(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """From the page of the tag, over a question, to a button that undoes it."""
    own = guard(audit=str(tmp_path / "audit"))
    fill(own)
    browser, before = Browser.of(own, "writer"), digest(own)
    link = re.search(r'href="([^"]*/ui/tag/delete[^"]*)"', browser.get(TAG).text)
    assert link
    question = browser.get(link[1].replace("&amp;", "&"))
    assert before in question.text
    assert digest(own) == before
    answer = browser.post("/ui/tag/delete", **NAMED)
    assert answer.status_code == 200
    assert digest(own) == ""
    assert "Undo" in answer.text
    assert browser.get(TAG).status_code == 404
    answer = browser.post("/ui/tag/restore", **NAMED, to=before)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/history?repository=team/app&tag=v1")
    assert digest(own) == before
    rows = own.registry.history.page(APP, Tag("v1"), limit=2).rows
    assert [(row.actor, row.api, row.new and str(row.new)) for row in rows] == [
        ("writer", "ui", before),
        ("writer", "ui", None),
    ]
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    written = [(line["account"], line["command"]) for line in lines if line["event"] == "write"]
    assert written == [("writer", "log in"), ("writer", "tag delete"), ("writer", "tag restore")]


def test_the_history_restores(own: Guarded) -> None:
    """Each move but the one to what the tag points at has a button; none for who may only pull."""
    for number in (1, 2):
        push_v2(own.registry, APP, Tag("v1"), IMAGES[number])
    browser = Browser.of(own, "writer")
    offered = re.findall(r'name="to" value="([^"]*)"', browser.get(HISTORY).text)
    assert offered == [str(IMAGES[1].digest), str(IMAGES[0].digest)]
    assert browser.post("/ui/tag/restore", **NAMED, to=offered[-1]).status_code == 303
    assert digest(own) == offered[-1]
    assert 'name="to"' not in Browser.of(own, "reader").get(HISTORY).text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("account", "settings", "status"),
    [("reader", {}, 403), ("writer", {"ui": "readonly"}, 403), ("writer", {"delete": False}, 405)],
)
def test_who_may_not(
    guard: Callable[..., Guarded], account: str, settings: dict[str, object], status: int
) -> None:
    """Neither see a button, nor are obeyed; nobody who has not logged in finds the tag."""
    own = guard(**settings)
    fill(own)
    browser, before = Browser.of(own, account), digest(own)
    assert "/ui/tag/delete" not in browser.get(TAG).text
    assert browser.post("/ui/tag/delete", **NAMED).status_code == status
    assert digest(own) == before
    nobody = Browser.of(own)
    assert nobody.post("/ui/tag/delete", page="/ui/login", **NAMED).status_code == 403
    assert digest(own) == before


def test_a_read_only_registry(own: Guarded) -> None:
    """Says so, to who would change something."""
    browser, before = Browser.of(own, "writer"), digest(own)
    with browser.client.application.app_context():
        from dualreg.web import context  # noqa: PLC0415 -- of the application

        context.writes().set_mark("moving", own.registry.now())
    answer = browser.post("/ui/tag/delete", **NAMED)
    assert answer.status_code == 405
    assert "moving" in answer.text
    assert digest(own) == before
