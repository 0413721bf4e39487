"""Ticked tags are deleted by one form, and restored by one: by who may, if they may go."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from dualreg.image.names import Tag
from dualreg.registry.history import History, Restoration
from dualreg.storage.base import StoreUnavailable
from tests.auth.conftest import Guarded
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, IMAGES, SECRET, Browser, fill

REPOSITORY = f"/ui/repository?repository={APP}"
QUESTION = f"/ui/tags/delete?repository={APP}"
ALL = ["v1", "v2", "latest", "same"]


def pointing(own: Guarded) -> dict[str, str]:
    """Return what the tags point at."""
    return {row.name: str(row.digest) for row in own.registry.tags.describe(APP, limit=99).rows}


def ticks(browser: Browser) -> list[str]:
    """Return the tags that can be ticked."""
    return re.findall(r'type="checkbox" name="tag" value="([^"]*)"', browser.get(REPOSITORY).text)


def test_tick_delete_and_undo(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """With what it frees in all, two lines in the audit log, and moves of each tag in the history."""
    own = guard(audit=str(tmp_path / "audit"))
    fill(own)
    browser, before = Browser.of(own, "writer"), pointing(own)
    assert sorted(ticks(browser)) == sorted(before) == sorted(ALL)
    chosen = ["latest", "same", "v1"]
    question = browser.get(QUESTION, tag=chosen).text
    size = own.registry.usage.together(APP, [*map(Tag, chosen)])
    apart = own.registry.usage.sizes(APP, own.registry.tags.describe(APP, limit=9).rows)
    assert apart[IMAGES[2].digest].own == 0  # both tags need it, and nothing else does
    assert size.own == sum(map(len, [IMAGES[2].manifest, *IMAGES[2].blobs.values()]))
    assert f'have <data value="{size.bytes}">' in question
    assert f'of which <data value="{size.own}">' in question
    assert "Delete 3 tags" in question
    assert pointing(own) == before
    answer = browser.post("/ui/tags/delete", repository=APP, tag=chosen)
    assert "3 tags were deleted" in answer.text
    assert pointing(own) == {"v2": before["v2"]}
    targets = re.findall(r'name="target" value="([^"]*)"', answer.text)
    assert targets == [f"{tag}@{before[tag]}" for tag in chosen]
    answer = browser.post("/ui/tags/restore", repository=APP, target=targets)
    assert (answer.status_code, answer.headers["Location"]) == (303, REPOSITORY)
    assert pointing(own) == before
    rows = own.registry.history.page(APP, Tag("same"), limit=2).rows
    assert [(row.actor, row.api, row.new and str(row.new)) for row in rows] == [
        ("writer", "ui", before["same"]),
        ("writer", "ui", None),
    ]
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    written = [(line["command"], line["repository"], line["tags"], line["digests"]) for line in lines[-2:]]
    digests = [before[tag] for tag in chosen]
    assert written == [
        ("tag delete", APP, chosen, digests),
        ("tag restore", APP, chosen, digests),
    ]


def test_what_may_not_go(own: Guarded) -> None:
    """Stays, and the page says why, before and after; so does what cannot be restored."""
    own.registry.immutability.add("team/app:v*")
    browser, before = Browser.of(own, "writer"), pointing(own)
    question = unescape(browser.get(QUESTION, tag=["v1", "none", "latest"]).text)
    assert "cannot be moved or deleted (rule team/app:v*)" in question
    assert "Tag not found: none" in question
    assert re.findall(r'type="hidden" name="tag" value="([^"]*)"', question) == ["latest"]
    only = unescape(browser.get(QUESTION, tag="v1").text)
    assert "None of these tags can be deleted" in only
    assert "post" not in only.partition("<main")[2]
    answer = unescape(browser.post("/ui/tags/delete", repository=APP, tag=["v1", "latest", "none"]).text)
    assert "1 tag was deleted" in answer
    assert "(rule team/app:v*)" in answer
    assert {**before, **pointing(own)} == before
    assert pointing(own).keys() == {"v1", "v2", "same"}
    push_v2(own.registry, APP, Tag("latest"), IMAGES[0])
    pushed = pointing(own)
    targets = [f"latest@{before['latest']}", f"v1@{before['v2']}", f"v2@{before['v2']}", f"x@{before['v2']}"]
    answer = browser.post("/ui/tags/restore", repository=APP, target=targets)
    assert answer.status_code == 200
    assert "1 tag was restored" in answer.text
    assert f"it exists again, and points at {pushed['latest']}" in answer.text
    assert "already" in answer.text
    assert pointing(own) == {**pushed, "x": before["v2"]}


def test_an_error_ends_the_undoing(
    guard: Callable[..., Guarded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit log has what was restored before."""
    own = guard(audit=str(tmp_path / "audit"))
    fill(own)
    browser, before, restore = Browser.of(own, "writer"), pointing(own), History.restore
    browser.post("/ui/tags/delete", repository=APP, tag=["v1", "v2"])

    def fail(history: History, planned: Restoration) -> None:
        if planned.tag == "v2":
            raise StoreUnavailable("no answer")
        restore(history, planned)

    monkeypatch.setattr(History, "restore", fail)
    targets = [f"{tag}@{before[tag]}" for tag in ("v1", "v2")]
    answer = browser.post("/ui/tags/restore", repository=APP, target=targets)
    assert answer.status_code >= 500
    line = json.loads((tmp_path / "audit").read_text().splitlines()[-1])
    assert (line["command"], line["tags"], line["digests"]) == ("tag restore", ["v1"], [before["v1"]])


@pytest.mark.parametrize(
    ("account", "settings", "status"),
    [("reader", {}, 403), ("writer", {"ui": "readonly"}, 403), ("writer", {"delete": False}, 405)],
)
def test_who_may_not(
    guard: Callable[..., Guarded], account: str, settings: dict[str, object], status: int
) -> None:
    """Neither see ticks, nor are obeyed; what one may not pull looks absent."""
    own = guard(**settings)
    fill(own)
    browser, before = Browser.of(own, account), pointing(own)
    assert ticks(browser) == []
    assert browser.post("/ui/tags/delete", repository=APP, tag=ALL).status_code == status
    assert 'name="tag"' not in browser.get(QUESTION, tag="v1").text
    absent = browser.get("/ui/tags/delete", repository="secret/none", tag="v1")
    hidden = browser.get("/ui/tags/delete", repository=SECRET, tag="v1")
    assert (hidden.status_code, hidden.text) == (absent.status_code, absent.text)
    answer = Browser.of(own).post("/ui/tags/delete", page="/ui/login", repository=APP, tag=ALL)
    assert answer.status_code == 403
    assert pointing(own) == before


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "no tag was ticked"),
        ({"tag": "!"}, "invalid tag"),
        ({"tag": [f"t{number}" for number in range(201)]}, "give 1 to 200"),
    ],
)
def test_what_is_no_choice(own: Guarded, form: dict[str, Any], said: str) -> None:
    """Is refused with what to do, as a question and as a form."""
    browser, before = Browser.of(own, "writer"), pointing(own)
    for answer in (
        browser.get(QUESTION, **form),
        browser.post("/ui/tags/delete", repository=APP, **form),
    ):
        assert answer.status_code == 400
        assert said in answer.text
    assert browser.post("/ui/tags/restore", repository=APP).status_code == 400
    assert browser.post("/ui/tags/restore", repository=APP, target="v1@x").status_code == 400
    assert pointing(own) == before
